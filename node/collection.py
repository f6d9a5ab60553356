"""Copies of an instance's files for the controller to fetch, made while the instance may be writing them.

The copies lie where no instance can reach them, in regular files of the names that `contract.collected` lists. What an
instance left under such a name is read as data only: no link is followed, and no file is read past its limit.
"""

from __future__ import annotations

import inspect
import os
import stat
from pathlib import Path
from typing import BinaryIO, Callable, List, Optional, Set

from contract import names
from contract.collected import DATABASE, EXIT_LOG, LOG, STREAM, Copy

from . import database_copy, journal, sandbox
from .errors import NodeError

PYTHON = "/usr/bin/python3"


class Collection:
    """The copies of one instance's files, in `target`. `faults` names what could not be copied, and why."""

    def __init__(self, source: Path, target: Path, instance_id: str, owners: Set[int]) -> None:
        self.source, self.target, self.id = source, target, instance_id
        self.owners = owners  # whose files are taken
        self.faults: List[str] = []

    def database(self, user: Optional[str]) -> None:
        """SQLite's backup, made in a sandbox as the instance's user; None: it has ended, and its files are root's."""
        path = self.source / names.DATABASE
        if not os.path.lexists(str(path)):
            return
        command = [PYTHON, "-I", "-c", inspect.getsource(database_copy), str(path), "live" if user else "ended"]
        self._made(DATABASE, lambda aside: sandbox.read(command, user, self.source, aside, DATABASE.limit))

    def journal(self, units: List[str], complete: bool) -> None:
        """What the units have printed. complete: a log that is there has all of it."""
        if not complete or not self._path(LOG).exists():
            self._made(LOG, lambda aside: journal.write(units, aside, LOG.limit))

    def lines(self, source: str, copy: Copy) -> None:
        """The whole lines of a file that may grow meanwhile."""
        if os.path.lexists(str(self.source / source)):
            self._made(copy, lambda aside: self._copy_lines(self.source / source, aside, copy.limit))

    def exits_and_stream(self) -> None:
        """The exit log and the stream."""
        self.lines(names.EXIT_LOG, EXIT_LOG)
        self.lines(names.STREAM, STREAM)

    def _path(self, copy: Copy) -> Path:
        return self.target / copy.name(self.id)

    def _made(self, copy: Copy, make: Callable[[Path], None]) -> None:
        path = self._path(copy)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(path.name + ".new")
        try:
            make(aside)
        except (NodeError, OSError) as error:
            self.faults.append(f"{copy.name(self.id)}: not collected: {error}")
            if aside.exists():
                aside.unlink()
            return
        aside.chmod(0o644)
        aside.replace(path)

    def _copy_lines(self, source: Path, target: Path, limit: int) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(str(source), flags)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in self.owners:
            os.close(descriptor)
            raise NodeError("not a regular file of the instance's")
        with os.fdopen(descriptor, "rb") as file, target.open("w+b") as copy:
            size = 0
            for block in iter(lambda: file.read(2**20), b""):
                size += len(block)
                if size > limit:
                    raise NodeError(f"larger than {limit} bytes")
                copy.write(block)
            copy.truncate(_end_of_lines(copy, size))


def _end_of_lines(file: BinaryIO, size: int) -> int:
    """Where the last whole line of an open file ends."""
    end, newline = size, -1
    while end and newline < 0:
        start = max(0, end - 65536)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        end = start + newline + 1
    return end
