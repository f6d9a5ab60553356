"""Copies of files that may grow meanwhile."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from node.collection import copy_database, copy_lines


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
    (tmp_path / "stream.jsonl").write_bytes(text)
    copy_lines(tmp_path / "stream.jsonl", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == copied
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "stream.jsonl"]


def test_a_database_is_copied_while_a_transaction_is_open_in_it(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db", isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE said (what)")
        writer.execute("INSERT INTO said VALUES ('kept')")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO said VALUES ('not yet')")
        copy_database(tmp_path / "own.db", tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT what FROM said").fetchall() == [("kept",)]
    assert not (tmp_path / "copy.db-wal").exists()
