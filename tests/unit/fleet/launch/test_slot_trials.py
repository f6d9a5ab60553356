"""Which builds restore slots of which models: remembered from one run to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.slot import Restored
from fleet.launch import slot_trials


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_a_pair_that_reads_everything_again_is_remembered() -> None:
    assert slot_trials.problem("k1", "m1") == "", "not tried yet"
    slot_trials.remember("k1", "m1", Restored(100, 0))
    assert slot_trials.problem("k1", "m1") == "llama.cpp k1 does not restore slots of this model"
    assert slot_trials.problem("k2", "m1") == slot_trials.problem("k1", "m2") == ""
    slot_trials.remember("k1", "m1", Restored(100, 99))
    assert slot_trials.problem("k1", "m1") == ""


def test_a_damaged_slot_says_nothing_of_the_pair() -> None:
    slot_trials.remember("k1", "m1", Restored(100, problem="llama-server answers 400"))
    assert slot_trials.problem("k1", "m1") == ""
