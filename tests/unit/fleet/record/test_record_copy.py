"""The copy of a record that a node keeps: what it has, and the record that another controller makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from contract.events import Checkpointed
from fleet.base.errors import RunError
from fleet.base.transport import Connection, fetch
from fleet.record import checkpoints
from fleet.record.checkpoints import Home
from fleet.record.record_copy import bring_back, is_needed, laid_out
from fleet.record.run_folder import Run

RUN = "x_20261123T141500Z_aaaa"
MANIFEST = {"models": {id: {"sha256": "m" * 64} for id in "ab"}, "code": {"hash": "c" * 20}}


class Store:
    """A node that keeps a copy. It gives what it is asked for, and no more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: dict[str, int] = {}

    def keep(self, run: Run) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with laid_out(run) as copy:
            shutil.copytree(copy, self.folder)

    transport = "local"  # the connection to it

    def get(self, limits: Mapping[str, int], target: Path) -> None:
        self.asked |= limits
        self.folder.mkdir(exist_ok=True)
        fetch(cast("Connection", self), str(self.folder), limits, target)

    @property
    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "first").mkdir()
    return Run.create(tmp_path / "first", RUN, MANIFEST, {"assignments": {"a": "n1", "b": "n2"}})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def checkpoint(run: Run, content: str, **instances: int) -> str:
    for id in instances:
        (run.path / "db" / f"{id}.db").unlink(missing_ok=True)
        (run.path / "db" / f"{id}.db").write_text(f"{content} of {id}")
        (run.path / "logs" / f"{id}.log").write_text("long")
    return next(
        iter(checkpoints.take(run, {id: Home(n, "RUNNING") for id, n in instances.items()}).kept.values())
    ).checkpoint


def test_another_controller_goes_on_from_the_newest_checkpoint_of_each_instance(
    run: Run, store: Store, tmp_path: Path
) -> None:
    first = checkpoint(run, "one", a=1, b=1)
    second = checkpoint(run, "two", a=1)
    store.keep(run)
    assert store.files == {
        "manifest.json",
        "plan.json",
        "events.jsonl",
        *(f"checkpoints/{second}/a{end}" for end in (".db", ".json")),
        *(f"checkpoints/{first}/b{end}" for end in (".db", ".json")),
    }

    other = tmp_path / "other"
    assert is_needed(other, RUN)
    assert bring_back(other, RUN, store.get)
    assert not is_needed(other, RUN)
    made = Run.open(other, RUN)
    assert (made.manifest, made.plan, made.events()) == (run.manifest, run.plan, run.events())
    for id in "ab":
        kept = checkpoints.newest(made, id)
        assert kept is not None
        assert kept == checkpoints.newest(run, id)
        assert checkpoints.problems(made, kept) == []
    assert [path.name for path in other.iterdir()] == [RUN], "nothing is left aside"


def test_a_record_made_from_what_runs_on_nodes_is_made_whole_and_keeps_what_it_has(
    run: Run, store: Store, tmp_path: Path
) -> None:
    checkpoint(run, "one", a=1)
    store.keep(run)
    other = tmp_path / "other"
    recovered = Run.create(other, RUN, {"experiment": "x", "recovered_from_nodes": True}, {"assignments": {"a": "n1"}})
    (recovered.path / "db" / "a.db").write_text("fetched")
    assert is_needed(other, RUN)
    assert bring_back(other, RUN, store.get)
    assert recovered.manifest == run.manifest
    assert (recovered.path / "db" / "a.db").read_text() == "fetched"
    assert not is_needed(other, RUN)


def test_without_a_copy_nothing_is_made(store: Store, tmp_path: Path) -> None:
    assert not bring_back(tmp_path / "other", RUN, store.get)
    assert list((tmp_path / "other").iterdir()) == []


def test_the_record_of_another_run_is_refused(run: Run, store: Store, tmp_path: Path) -> None:
    store.keep(run)
    other = "y_20261123T141500Z_bbbb"
    with pytest.raises(RunError, match=f"{other}: what is kept of it is the record of '{RUN}'"):
        bring_back(tmp_path / "other", other, store.get)
    assert list((tmp_path / "other").iterdir()) == []


def test_a_copy_names_no_file_out_of_the_record(run: Run, store: Store, tmp_path: Path) -> None:
    run.append(Checkpointed("../../../etc", {"a": 1}))
    run.append(Checkpointed("20261128T002159123Z", {"../../a": 1, "a": 1}))
    store.keep(run)
    assert bring_back(tmp_path / "other", RUN, store.get)
    assert not [name for name in store.asked if ".." in name]
    assert "checkpoints/20261128T002159123Z/a.db" in store.asked
