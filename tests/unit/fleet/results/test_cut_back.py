"""Rows beyond a checkpoint are taken back from the merged database, counted, and nobody else's are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from contract.events import Resumed
from fleet.record import checkpoints
from fleet.record.checkpoints import Home
from fleet.record.run_folder import Run
from fleet.results.cut_back import beyond, cut_back
from fleet.results.merge import merge

RUN = "x_20261123T141500Z_aaaa"
MANIFEST = {"models": {"a": {"sha256": "m"}, "b": {"sha256": "m"}}, "code": {"hash": "c"}}


def write(path: Path, rounds: int) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute('CREATE TABLE "Said So" (round INTEGER, text TEXT)')
        db.execute("CREATE TABLE pairs (one TEXT PRIMARY KEY, other TEXT) WITHOUT ROWID")
        for number in range(1, rounds + 1):
            db.execute('INSERT INTO "Said So" VALUES (?, ?)', (number, f"words {number}"))
            db.execute("INSERT INTO pairs VALUES (?, 'x')", (str(number),))
        db.commit()


def merged(run: Run, table: str) -> dict[str, int]:
    with closing(sqlite3.connect(run.path / "experiments.db")) as db:
        return dict(db.execute(f'SELECT instance, count(*) FROM "{table}" GROUP BY 1'))


def a_run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path, RUN, MANIFEST, {"assignments": {"a": "n1", "b": "n2"}})
    for id in "ab":
        write(run.path / "db" / f"{id}.db", 5)
    merge(run.path, {"a": "n1", "b": "n2"}, RUN)
    return run


def test_what_a_checkpoint_does_not_have_is_taken_back_and_counted(tmp_path: Path) -> None:
    run, checkpoint = a_run(tmp_path), tmp_path / "checkpoint.db"
    write(checkpoint, 3)
    assert cut_back(run, "a", checkpoint) == {"Said So": 2}
    assert merged(run, "Said So") == {"a": 3, "b": 5}
    assert merged(run, "pairs") == {"b": 5}
    write(run.path / "db/a.db", 4)  # it went on, and is fetched
    merge(run.path, {"a": "n2", "b": "n2"}, RUN)
    assert merged(run, "Said So") == {"a": 4, "b": 5}
    assert merged(run, "pairs") == {"a": 4, "b": 5}
    with closing(sqlite3.connect(run.path / "experiments.db")) as db:
        nodes = db.execute("""SELECT node FROM "Said So" WHERE instance = 'a' ORDER BY round""").fetchall()
    assert nodes == [("n1",), ("n1",), ("n1",), ("n2",)], "where each row was written first"


def test_without_a_checkpoint_everything_is_taken_back(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    assert cut_back(run, "a", None) == {"Said So": 5}
    assert merged(run, "Said So") == {"b": 5}


def test_nothing_was_merged_yet(tmp_path: Path) -> None:
    run = Run.create(tmp_path, RUN, {}, {"assignments": {}})
    assert cut_back(run, "a", None) == {}
    assert not (run.path / "experiments.db").exists()


def test_what_comes_home_late_is_counted_against_the_checkpoint_that_followed_it(tmp_path: Path) -> None:
    run, came = a_run(tmp_path), tmp_path / "came"
    (run.path / "logs/a.exits.jsonl").write_text("")
    kept = checkpoints.take(run, {"a": Home(1, "RUNNING")}).kept["a"]
    run.append(Resumed("a", 2, "n2", kept.checkpoint))
    for folder in ("db", "logs"):
        (came / folder).mkdir(parents=True)
    write(came / "db/a.db", 9)
    (came / "logs/a.log").write_text("its last words")
    assert checkpoints.keep_earlier(run, "a", 1, came) == ["logs/a.e1.log", "db/a.e1.db"]
    assert beyond(run, "a", 1) == {"Said So": 4}
    assert merged(run, "Said So") == {"a": 5, "b": 5}, "nothing of it is merged"
    write(came / "db/a.db", 9)
    (run.path / "db/a.e1.db").write_bytes(b"nonsense" * 1000)
    assert beyond(run, "a", 1) == {}
