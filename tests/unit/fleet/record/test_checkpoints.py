"""Checkpoints of a run: what came home, kept under a name, and refused when it is not what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.events import Checkpointed, Resumed
from fleet.base.errors import CheckpointError
from fleet.record import checkpoints
from fleet.record.checkpoints import Home
from fleet.record.run_folder import Run

RUN = "x_20261123T141500Z_aaaa"
MANIFEST = {"models": {"a": {"sha256": "m" * 64}, "b": {"sha256": "m" * 64}}, "code": {"hash": "c" * 20}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.create(tmp_path, RUN, MANIFEST, {"assignments": {"a": "n1", "b": "n2"}})
    come_home(made, "a", "one")
    return made


def come_home(run: Run, id: str, content: str) -> None:
    """As a fetch does: replaced, not written to."""
    for path in (run.path / "db" / f"{id}.db", run.path / "logs" / f"{id}.exits.jsonl"):
        aside = path.with_name(f".{path.name}")
        aside.write_text(content)
        aside.replace(path)


def test_a_checkpoint_keeps_what_came_home_whatever_comes_later(run: Run) -> None:
    taken = checkpoints.take(run, {"a": Home(1, "RUNNING")})
    assert taken.changed
    come_home(run, "a", "two")
    database, exits, _ = checkpoints.files(run, taken.kept["a"])
    assert (database.read_text(), exits.read_text()) == ("one", "one")
    assert checkpoints.problems(run, taken.kept["a"]) == []
    (event,) = [one.event for one in run.events() if isinstance(one.event, Checkpointed)]
    assert event == Checkpointed(taken.kept["a"].checkpoint, {"a": 1})


def test_nothing_new_makes_no_other_checkpoint(run: Run) -> None:
    first = checkpoints.take(run, {"a": Home(1, "STOPPED")})
    again = checkpoints.take(run, {"a": Home(1, "STOPPED")})
    assert (again.changed, again.kept) == (False, first.kept)
    come_home(run, "a", "two")
    assert checkpoints.take(run, {"a": Home(1, "STOPPED")}).kept["a"].checkpoint > first.kept["a"].checkpoint


def test_the_newest_until_a_name_is_found(run: Run) -> None:
    first = checkpoints.take(run, {"a": Home(1, "RUNNING")}).kept["a"]
    come_home(run, "a", "two")
    second = checkpoints.take(run, {"a": Home(1, "RUNNING")}).kept["a"]
    assert checkpoints.names(run) == [first.checkpoint, second.checkpoint]
    assert checkpoints.newest(run, "a") == second
    assert checkpoints.newest(run, "a", first.checkpoint) == first
    assert checkpoints.newest(run, "b") is None


def test_one_that_was_damaged_or_is_of_another_model_is_named(run: Run) -> None:
    kept = checkpoints.take(run, {"a": Home(1, "RUNNING")}).kept["a"]
    database, _, _ = checkpoints.files(run, kept)
    database.unlink()
    database.write_text("other")
    run.update_manifest(models={"a": {"sha256": "n" * 64}, "b": {}})
    problems = checkpoints.problems(run, kept)
    assert "of another model: mmmmmmmmmmmm, the run has nnnnnnnnnnnn" in problems[0]
    assert problems[1].endswith("a.db is damaged or missing; resume from another: -e from=<name>")


def test_an_unreadable_description_is_named_with_its_cure(run: Run) -> None:
    kept = checkpoints.take(run, {"a": Home(1, "RUNNING")}).kept["a"]
    (run.path / "checkpoints" / kept.checkpoint / "a.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"a\.json: .*; remove it, or resume from another"):
        checkpoints.newest(run, "a")


def test_an_epoch_is_put_aside_under_its_number(run: Run) -> None:
    checkpoints.put_aside(run, "a", 1)
    assert sorted(path.name for path in (run.path / "db").iterdir()) == ["a.e1.db"]
    assert (run.path / "logs/a.e1.exits.jsonl").read_text() == "one"


def test_the_epochs_of_a_run_are_those_of_its_events(run: Run) -> None:
    assert run.epochs == {}
    run.append(Resumed("a", 2, "n1"))
    run.append(Resumed("a", 3, "n2"))
    assert run.epochs == {"a": 3}


def with_slot(run: Run, content: str, build: str = "k1") -> Home:
    come_home(run, "a", content)
    (run.path / "slots").mkdir(exist_ok=True)
    (run.path / "slots" / "a.bin").write_text(f"slot of {content}")
    return Home(1, "RUNNING", "n1", ("-ngl", "99"), slot=True)


def test_the_newest_slot_is_kept_for_the_build_and_settings_that_it_is_of(tmp_path: Path) -> None:
    run = Run.create(tmp_path, RUN, {**MANIFEST, "llama_cpp": {"n1": "k1"}}, {"assignments": {"a": "n1"}})
    first = checkpoints.take(run, {"a": with_slot(run, "one")}).kept["a"]
    assert (first.build, first.settings) == ("k1", ("-ngl", "99"))
    assert checkpoints.slot_problem(run, first, "k1", ("-ngl", "99")) == ""
    assert "is of llama.cpp k1, and it is started with k2" in checkpoints.slot_problem(run, first, "k2", ("-ngl", "99"))
    assert "with other settings: -ngl 99" in checkpoints.slot_problem(run, first, "k1", ())
    second = checkpoints.take(run, {"a": with_slot(run, "two")}).kept["a"]
    assert "is not kept any more" in checkpoints.slot_problem(run, first, "k1", ("-ngl", "99"))
    assert checkpoints.problems(run, first) == [], "it goes on without it"
    assert checkpoints.slot_file(run, second).read_text() == "slot of two"
    come_home(run, "a", "three")
    third = checkpoints.take(run, {"a": Home(1, "RUNNING", "n1")}).kept["a"]
    assert checkpoints.slot_problem(run, third, "k1", ("-ngl", "99")) == "its checkpoint has no slot"
