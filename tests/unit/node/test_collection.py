"""Copies of files that may grow meanwhile."""

import errno
import inspect
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from contract import names
from contract.collected import STREAM, Copy
from node import database_copy, sandbox
from node.collection import Collection
from node.errors import NodeError


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        (b"", b""),
        (b"whole\n", b"whole\n"),
        (b"whole\ntorn", b"whole\n"),
        (b"torn", b""),
        (b"x" * 200_000 + b"\n" + b"y" * 200_000, b"x" * 200_000 + b"\n"),
        (b"y" * 200_000, b""),
    ],
    ids=["empty", "whole", "torn", "only torn", "long", "long and only torn"],
)
def test_a_file_that_grows_is_copied_as_far_as_its_lines_are_whole(tmp_path: Path, text: bytes, copied: bytes) -> None:
    source = instance(tmp_path)
    (source / names.STREAM).write_bytes(text)
    copies = collection(source)
    copies.exits_and_stream()
    assert (copies.folders[0] / "logs/a.stream.jsonl").read_bytes() == copied
    assert copies.faults == []
    assert [path.name for path in (copies.folders[0] / "logs").iterdir()] == ["a.stream.jsonl"]


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "Too many levels of symbolic links"),
        (lambda path: os.mkfifo(path), "not a regular file of the instance's"),
        (lambda path: path.mkdir(), "not a regular file of the instance's"),
        (lambda path: path.write_text("x" * 101), "larger than 100 bytes"),
    ],
    ids=["link", "pipe", "folder", "large"],
)
def test_what_an_instance_plants_under_a_name_is_not_followed(
    tmp_path: Path, plant: Callable[[Path], None], fault: str
) -> None:
    source = instance(tmp_path)
    plant(source / names.STREAM)
    assert fault in refused(collection(source))


def test_a_file_of_somebody_else_is_not_taken(tmp_path: Path) -> None:
    source = instance(tmp_path)
    (source / names.STREAM).write_text("secret\n")
    copies = Collection(source, [tmp_path / "copies"], "a", {os.getuid() + 1}, os.getgid())
    assert "not a regular file of the instance's" in refused(copies)


def refused(copies: Collection) -> str:
    """The one fault of a stream of at most 100 bytes; nothing of it is left in the copies."""
    copies.lines(names.STREAM, Copy(STREAM.path, 100))
    (said,) = copies.faults
    assert said.startswith("logs/a.stream.jsonl: not collected: ")
    assert list((copies.folders[0] / "logs").iterdir()) == []
    return said


def instance(tmp_path: Path) -> Path:
    folder = tmp_path / "instance"
    (folder / "logs").mkdir(parents=True)
    return folder


def collection(source: Path) -> Collection:
    return Collection(source, [source.parent / "copies", source.parent / "spare"], "a", {os.getuid()}, os.getgid())


def test_a_database_is_copied_while_a_transaction_is_open_in_it(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db", isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE said (what)")
        writer.execute("INSERT INTO said VALUES ('kept')")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO said VALUES ('not yet')")
        copy = tmp_path / "copy.db"
        copy.write_bytes(copied(tmp_path / "own.db", "live"))
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT what FROM said").fetchall() == [("kept",)]


def test_a_database_that_can_only_be_read_is_copied_with_what_its_log_holds(tmp_path: Path) -> None:
    writer = sqlite3.connect(tmp_path / "own.db", isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE said (what)")
    writer.execute("INSERT INTO said VALUES ('in the log')")
    for suffix in ("", "-wal"):  # as a killed writer leaves them
        shutil.copy(tmp_path / f"own.db{suffix}", tmp_path / f"left.db{suffix}")
    writer.close()
    (tmp_path / "copy.db").write_bytes(copied(tmp_path / "left.db", "ended"))
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT what FROM said").fetchall() == [("in the log",)]
    assert sorted(path.name for path in tmp_path.glob("left*")) == ["left.db", "left.db-wal"]


def test_what_is_no_database_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "own.db").write_text("not SQLite")
    done = copier(tmp_path / "own.db", "ended")
    assert done.returncode == 1
    assert done.stderr.decode() == "DatabaseError: file is not a database\n"


def test_a_database_that_stays_locked_is_given_up(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db", isolation_level=None)) as writer:
        writer.execute("CREATE TABLE said (what)")
        writer.execute("BEGIN EXCLUSIVE")
        source = inspect.getsource(database_copy).replace("LOCKED_SECONDS = 5", "LOCKED_SECONDS = 0.1")
        done = subprocess.run(
            [sys.executable, "-I", "-c", source, tmp_path / "own.db", "live"], capture_output=True, timeout=30
        )
    assert done.returncode == 1
    assert done.stderr.decode() == "OperationalError: locked by its program, for more than 0.1 s\n"


class NoRoom(OSError):
    """As of a disk that is full."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_copy_for_which_the_disk_has_no_room_goes_where_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = instance(tmp_path)
    (source / names.EXIT_LOG).write_text("one\n")
    (source / names.STREAM).write_text("x" * 2000 + "\n")
    copies = collection(source)
    full = copies.folders[0]
    write = Collection._copy

    def copy(self: Collection, source: Path, target: Path, limit: int) -> None:
        if full in target.parents:
            raise NoRoom
        write(self, source, target, limit)

    monkeypatch.setattr(Collection, "_copy", copy)
    monkeypatch.setattr("node.collection.MOST_BYTES", (2**60, 1000))
    copies.exits_and_stream()
    assert copies.spare
    assert (copies.folders[1] / "logs/a.exits.jsonl").read_text() == "one\n"
    assert copies.faults == ["logs/a.stream.jsonl: not collected: larger than 1000 bytes"]
    monkeypatch.undo()  # there is room again
    copies.exits_and_stream()
    assert not copies.spare
    assert (full / "logs/a.exits.jsonl").read_text() == "one\n"


def test_a_database_that_sqlite_cannot_copy_comes_as_it_is_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = instance(tmp_path)
    (source / names.DATABASE).write_bytes(b"torn")
    (source / f"{names.DATABASE}-wal").write_bytes(b"its log")
    copies = collection(source)

    def locked(*_: object) -> None:
        raise NodeError("locked")

    monkeypatch.setattr(sandbox, "read", locked)
    copies.database("nobody")
    assert copies.faults == ["db/a.db: not collected: locked; its files as they were: raw/a.db, raw/a.db-wal"]
    assert (copies.folders[0] / "raw/a.db-wal").read_bytes() == b"its log"
    monkeypatch.setattr(sandbox, "read", lambda *given: given[3].write_bytes(b"copy"))
    copies.database("nobody")
    assert [str(path.relative_to(copies.folders[0])) for path in copies.folders[0].rglob("*.*")] == ["db/a.db"]


def copier(path: Path, state: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-I", "-c", inspect.getsource(database_copy), path, state], capture_output=True
    )


def copied(path: Path, state: str) -> bytes:
    done = copier(path, state)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_slot_is_taken_once_and_one_of_an_earlier_moment_is_none_of_this(tmp_path: Path) -> None:
    source = instance(tmp_path)
    copies, saved = collection(source), source / "slot.bin"
    saved.write_bytes(b"ggsq")
    assert copies.slot(saved, since=0.0)
    assert not saved.exists()
    copy = copies.folders[0] / "slots/a.bin"
    assert copy.read_bytes() == b"ggsq"
    made = copy.stat().st_mtime
    assert copies.slot(None, since=made), "its instance has ended before, and nothing is saved any more"
    assert not copies.slot(None, since=made + 1)
