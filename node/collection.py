"""Consistent copies of an instance's files, made while it may be writing them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import urllib.request
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by everybody."""
    aside = path.with_name(path.name + ".new")
    aside.write_text(text, encoding="utf-8")
    aside.chmod(0o644)
    aside.replace(path)


def copy_lines(source: Path, target: Path) -> None:
    """Copy the whole lines of a file that may grow meanwhile."""
    aside = target.with_name(target.name + ".new")
    shutil.copyfile(str(source), str(aside))
    with aside.open("r+b") as handle:
        end, newline = handle.seek(0, os.SEEK_END), -1
        while end and newline < 0:
            start = max(0, end - 65536)
            handle.seek(start)
            newline = handle.read(end - start).rfind(b"\n")
            end = start + newline + 1
        handle.truncate(end)
    aside.replace(target)


def copy_database(source: Path, target: Path) -> None:
    """SQLite's own backup: consistent while the workload writes. One file, no log beside it."""
    aside = target.with_name(target.name + ".new")
    for left in (aside, aside.with_name(aside.name + "-journal")):
        if left.exists():
            left.unlink()
    reading = sqlite3.connect(f"file:{urllib.request.pathname2url(str(source))}?mode=rw", uri=True)
    writing = sqlite3.connect(str(aside))
    try:
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode=DELETE")
    finally:
        reading.close()
        writing.close()
    aside.chmod(0o644)
    aside.replace(target)
