"""Packs the files that an experiment asks for, out of an instance's folder, into one archive.

The instance may rearrange its folder meanwhile: each file is opened in a folder that is open already, no link is
followed, and only regular files of the instance's are taken.
"""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
from pathlib import Path
from typing import List, Sequence, Set

from contract import names
from contract.collected import MOST_FILES

from .errors import NodeError

# Root's own, and what comes home by itself.
NOT_RESULTS = {names.DESCRIPTION, names.OUTCOME, names.PROGRESS, names.DATABASE, names.EXIT_LOG, names.STREAM}
MOST_ENTRIES = 100_000  # of a folder's tree that are looked at


def pack(folder: Path, patterns: Sequence[str], owners: Set[int], target: Path, limit: int) -> List[str]:
    """Write the archive; what was left out, and why. Raises NodeError when there is more than may be taken."""
    wanted = re.compile("|".join(map(_expression, patterns)))
    left_out: List[str] = []
    taken = size = looked_at = 0
    with tarfile.open(str(target), "w", format=tarfile.PAX_FORMAT) as archive:
        for path, folders, files, descriptor in os.fwalk(str(folder)):
            folders.sort()
            looked_at += len(folders) + len(files)
            if looked_at > MOST_ENTRIES:
                raise NodeError(f"more than {MOST_ENTRIES} files and folders are in the instance's folder")
            for file in sorted(files):
                name = os.path.relpath(os.path.join(path, file), str(folder))
                if not wanted.fullmatch(name) or name in NOT_RESULTS:
                    continue
                try:
                    size += _add(archive, name, file, descriptor, owners, limit - size)
                except (NodeError, OSError) as error:
                    left_out.append(f"{name!r}: {error}" if not name.isprintable() else f"{name}: {error}")
                    continue
                taken += 1
                if taken > MOST_FILES:
                    raise NodeError(f"more than {MOST_FILES} files match")
    return left_out


def _add(archive: tarfile.TarFile, name: str, file: str, folder: int, owners: Set[int], room: int) -> int:
    """Add one file as it is now; its size. Raises NodeError, OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(file, flags, dir_fd=folder), "rb") as source:
        found = os.fstat(source.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in owners:
            raise NodeError("not a regular file of the instance's")
        if found.st_size > room:
            raise NodeError(f"there is no room for its {found.st_size} bytes")
        if not name.isprintable():
            raise NodeError("its name cannot be printed")
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime = found.st_size, int(found.st_mtime)
        # One that shrinks meanwhile is filled up, one that grows is cut off.
        archive.addfile(entry, _Padded(source, found.st_size))
        return found.st_size


class _Padded(io.RawIOBase):
    """A file's first `size` bytes, with zeros for those that are missing."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self.file, self.left = file, size

    def read(self, size: int = -1) -> bytes:
        wanted = self.left if size < 0 else min(size, self.left)
        block = self.file.read(wanted).ljust(wanted, b"\0")
        self.left -= wanted
        return block


def _expression(pattern: str) -> str:
    """The regular expression of a pattern of paths."""
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(meaning.get(part, re.escape(part)) for part in parts)
