"""The keys of a run's instances on the controller."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from contract.description import InstanceDescription
from fleet.base.errors import RunError
from fleet.launch import key_store

RUN = "x_20261123T141500Z_3f2a"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "jarfleet" / "keys"


def instance(id: str, peers: str = "", observes: str = "") -> InstanceDescription:
    return InstanceDescription(
        RUN, id, Path("/x"), "", peers=dict.fromkeys(peers, "http://x"), observes=dict.fromkeys(observes, "http://x")
    )


def test_each_pair_has_a_key_of_its_own_that_both_know_and_nobody_else() -> None:
    key_store.make(RUN, [instance("a", "bc"), instance("b", "ac"), instance("c", "ab"), instance("d")])
    known = {id: key_store.of(RUN, id).workload.keys for id in "abcd"}
    assert known["a"]["b"] == known["b"]["a"]
    assert known["a"]["c"] == known["c"]["a"]
    assert known["b"]["c"] == known["c"]["b"]
    assert len({key for keys in known.values() for key in keys.values()}) == 3
    assert {len(key) for keys in known.values() for key in keys.values()} == {64}
    assert known["d"] == {}


def test_a_subject_is_told_nothing_of_its_observers_but_its_relay_is() -> None:
    key_store.make(RUN, [instance("s"), instance("o", observes="s"), instance("p", observes="s")])
    assert key_store.of(RUN, "s").workload.keys == {}
    relay = key_store.of(RUN, "s").relay.keys
    assert relay == {id: key_store.of(RUN, id).workload.keys["s"] for id in "op"}
    assert len(set(relay.values())) == 2


def test_the_file_is_its_users_alone_and_goes_with_the_run(state: Path) -> None:
    key_store.make(RUN, [instance("a", "b"), instance("b", "a")])
    (path,) = state.iterdir()
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(state.stat().st_mode)) == (0o600, 0o700)
    key_store.remove(RUN)
    assert list(state.iterdir()) == []
    with pytest.raises(RunError, match="cannot be read"):
        key_store.of(RUN, "a")
    key_store.remove(RUN)


def test_a_run_id_is_no_path() -> None:
    with pytest.raises(RunError, match="not a run id"):
        key_store.of("../../x", "a")
