"""Copies of an instance's files for the controller to fetch, made while the instance may be writing them.

The copies lie where no instance can reach them, in regular files of the names that `contract.collected` lists. What an
instance left under such a name is read as data only: no link is followed, and no file is read past its limit.
"""

from __future__ import annotations

import errno
import inspect
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Callable, List, Optional, Sequence, Set

from contract import names
from contract.collected import DATABASE, EXIT_LOG, LOG, RAW_DATABASE, RAW_DATABASE_LOG, SLOT, STREAM, Copy

from . import database_copy, journal, result_files, sandbox
from .errors import NodeError

MOST_FAULTS = 10  # that are told of files of one kind
PYTHON = "/usr/bin/python3"
MOST_BYTES = (2**60, 64 * 2**20)  # of a copy in each of the folders: the second one is in memory
NO_ROOM = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)


class Collection:
    """The copies of one instance's files. `faults` names what could not be copied, and why.

    A copy goes into the first of `folders` that has room for it (see names.copies_folders); `group` may read them.
    """

    def __init__(self, source: Path, folders: Sequence[Path], instance_id: str, owners: Set[int], group: int) -> None:
        self.source, self.folders, self.id = source, folders, instance_id
        self.owners = owners  # whose files are taken
        self.group = group
        self.faults: List[str] = []

    def database(self, user: Optional[str]) -> None:
        """SQLite's backup, made in a sandbox as the instance's user; None: it has ended, and its files are root's.

        Where SQLite cannot copy it, its files come as they are.
        """
        path = self.source / names.DATABASE
        if not os.path.lexists(str(path)):
            return
        raw = {RAW_DATABASE: path, RAW_DATABASE_LOG: path.with_name(path.name + "-wal")}
        command = [PYTHON, "-I", "-c", inspect.getsource(database_copy), str(path), "live" if user else "ended"]
        if self._made(DATABASE, lambda aside, limit: sandbox.read(command, user, self.source, aside, limit)):
            for copy in raw:
                self._remove(copy)
            return
        self._remove(DATABASE)
        came = [
            copy.name(self.id) for copy, file in raw.items() if os.path.lexists(str(file)) and self._raw(copy, file)
        ]
        if came:
            self.faults[-1] += f"; its files as they were: {', '.join(came)}"

    def slot(self, saved: Optional[Path], since: float) -> bool:
        """llama-server's slot, which is removed where it was saved; whether there is a copy.

        since: where there is none now, an earlier copy counts if it was made after that, in seconds of 1970.
        """
        if saved is None:
            copies = [path for folder in self.folders if (path := folder / SLOT.name(self.id)).exists()]
            return any(path.stat().st_mtime >= since for path in copies)
        made = self._made(SLOT, lambda aside, limit: self._copy(saved, aside, limit))
        saved.unlink()
        return made

    @property
    def spare(self) -> bool:
        """Whether some copies are not in the first of the folders."""
        return any(folder.exists() and any(folder.rglob("*.*")) for folder in self.folders[1:])

    def _raw(self, copy: Copy, file: Path) -> bool:
        return self._made(copy, lambda aside, limit: self._copy(file, aside, limit))

    def journal(self, units: List[str], complete: bool) -> None:
        """What the units have printed. complete: a log that is there has all of it."""
        if not complete or not any((folder / LOG.name(self.id)).exists() for folder in self.folders):
            self._made(LOG, lambda aside, limit: journal.write(units, aside, limit))

    def lines(self, source: str, copy: Copy) -> None:
        """The whole lines of a file that may grow meanwhile."""
        if os.path.lexists(str(self.source / source)):
            self._made(copy, lambda aside, limit: self._copy_lines(self.source / source, aside, limit))

    def packed(self, copy: Copy, patterns: Sequence[str]) -> None:
        """The files that match."""
        if patterns:
            self._made(copy, lambda aside, limit: self._pack(patterns, aside, limit))

    def _pack(self, patterns: Sequence[str], target: Path, limit: int) -> None:
        left_out = result_files.pack(self.source, patterns, self.owners, target, limit)
        self.faults += left_out[:MOST_FAULTS]
        if len(left_out) > MOST_FAULTS:
            self.faults.append(f"and {len(left_out) - MOST_FAULTS} more files")

    def exits_and_stream(self) -> None:
        """The exit log and the stream."""
        self.lines(names.EXIT_LOG, EXIT_LOG)
        self.lines(names.STREAM, STREAM)

    def _remove(self, copy: Copy) -> None:
        for folder in self.folders:
            with suppress(FileNotFoundError):
                (folder / copy.name(self.id)).unlink()

    def _made(self, copy: Copy, make: Callable[[Path, int], None]) -> bool:
        """Make a copy; whether it was made."""
        reason = ""
        for folder, most in zip(self.folders, MOST_BYTES):
            aside = folder / f"{copy.name(self.id)}.new"
            try:
                self._open(folder, aside.parent)
                make(aside, min(copy.limit, most))
                aside.chmod(0o644)
                self._remove(copy)
                aside.replace(folder / copy.name(self.id))
                return True
            except (NodeError, OSError) as error:
                reason = str(error)
                with suppress(OSError):
                    aside.unlink()
                if getattr(error, "errno", None) not in NO_ROOM:
                    break
        self.faults.append(f"{copy.name(self.id)}: not collected: {reason}")
        return False

    def _open(self, folder: Path, below: Path) -> None:
        """Make a folder, which only root and the group may read, and one in it."""
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(str(folder), 0, self.group)
        folder.chmod(0o750)
        below.mkdir(exist_ok=True)

    def _copy_lines(self, source: Path, target: Path, limit: int) -> None:
        """Copy a file's whole lines."""
        self._copy(source, target, limit)
        with target.open("r+b") as copy:
            copy.truncate(_end_of_lines(copy, copy.seek(0, os.SEEK_END)))

    def _copy(self, source: Path, target: Path, limit: int) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(str(source), flags)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in self.owners:
            os.close(descriptor)
            raise NodeError("not a regular file of the instance's")
        with os.fdopen(descriptor, "rb") as file, target.open("wb") as copy:
            size = 0
            for block in iter(lambda: file.read(2**20), b""):
                size += len(block)
                if size > limit:
                    raise NodeError(f"larger than {limit} bytes")
                copy.write(block)


def _end_of_lines(file: BinaryIO, size: int) -> int:
    """Where the last whole line of an open file ends."""
    end, newline = size, -1
    while end and newline < 0:
        start = max(0, end - 65536)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        end = start + newline + 1
    return end
