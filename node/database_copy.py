"""Copies an SQLite database consistently to standard output. A program of its own: it runs in a sandbox.

    python3 -I -c <this> <database> live|ended

A live one is copied by SQLite's backup, while its instance writes. One whose instance has ended can only be read: it is
first copied with its write-ahead log.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
import time
import urllib.request

LOCKED_SECONDS = 5
BUSY, LOCKED = 5, 6  # SQLite's result codes


class Patience:
    """Told of each step of a backup; raises sqlite3.OperationalError when the database has been locked for too long."""

    def __init__(self) -> None:
        self.since = time.monotonic()

    def __call__(self, status: int, remaining: int, total: int) -> None:
        if status not in (BUSY, LOCKED):
            self.since = time.monotonic()
        elif time.monotonic() - self.since > LOCKED_SECONDS:
            raise sqlite3.OperationalError(f"locked by its program, for more than {LOCKED_SECONDS} s")


def main(path: str, live: bool) -> None:
    """Write the copy. Raises OSError, sqlite3.Error."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        source, target = path, os.path.join(scratch, "copy.db")
        if not live:
            source = os.path.join(scratch, "source.db")
            for suffix in ("", "-wal"):
                if os.path.isfile(path + suffix):
                    shutil.copyfile(path + suffix, source + suffix)
        reading = sqlite3.connect(f"file:{urllib.request.pathname2url(source)}?mode=rw", uri=True, timeout=0.25)
        writing = sqlite3.connect(target)
        try:
            reading.backup(writing, progress=Patience(), sleep=0.25)
            writing.execute("PRAGMA journal_mode=DELETE")
        finally:
            reading.close()
            writing.close()
        with open(target, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2] == "live")
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
