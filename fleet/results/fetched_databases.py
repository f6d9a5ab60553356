"""The fetched databases, `db/<instance>.db` or `raw/<instance>.db`: what exists, and how to read it, damaged or not.

The fetched files are never modified. What SQLite or this module must repair first is repaired in a copy.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from contract.collected import RAW_DATABASE
from fleet.base.errors import MergeError


@dataclass(frozen=True)
class Source:
    """A fetched database: its file, SQLite's files beside it, and the size and hash of all together."""

    path: Path
    sidecars: tuple[Path, ...]
    bytes: int
    sha256: str  # of the database and its sidecars, concatenated


def sources_of(db_dir: Path, instances: list[str], problems: dict[str, str]) -> dict[str, Source]:
    """Return the fetched database of each instance; record in `problems` what cannot be a database."""
    found: dict[str, Source] = {}
    for instance in instances:
        if not instance or Path(instance).name != instance or instance == ".." or "\0" in instance:
            raise MergeError(f"instance {instance!r}: cannot be a file's name; check the ids in plan.json")
        path = db_dir / f"{instance}.db"
        raw = db_dir.parent / RAW_DATABASE.name(instance)  # as it lay on its node, where SQLite could not copy it
        if raw.is_file() and not path.is_file():
            path = raw
        if not path.is_file():
            problems[instance] = f"missing: {path} was not fetched"
        elif path.stat().st_size == 0:
            problems[instance] = "the file is empty"
        else:
            beside = [path.with_name(path.name + end) for end in ("-wal", "-journal")]
            sidecars = tuple(side for side in beside if side.is_file() and side.stat().st_size)
            digest, size = hashlib.sha256(), 0
            for each in (path, *sidecars):
                with each.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
                        size += len(block)
            found[instance] = Source(path, sidecars, size, digest.hexdigest())
    return found


def readable_uri(source: Source, instance: str, scratch: Path, problems: dict[str, str]) -> str:
    """Return the URI by which to read a source; record in `problems` if it is truncated.

    The fetched files stay unchanged: what SQLite or this function must repair first is copied to `scratch`.
    """
    path = source.path
    torn = _torn_bytes(path)
    cuts = ["the file is cut off"] if torn else []
    if any(side.name.endswith("-wal") and _is_torn_log(side) for side in source.sidecars):
        cuts.append("its write-ahead log is cut off: what was written last is lost")
    if cuts:
        problems[instance] = "; ".join(cuts)
    if not torn and not source.sidecars:
        return f"{path.as_uri()}?mode=ro&immutable=1"
    for file in (path, *source.sidecars):
        shutil.copyfile(file, scratch / file.name)
    copy = scratch / path.name
    if torn:  # SQLite would read zeros for the rest of that page, and rows made of them
        os.truncate(copy, copy.stat().st_size - torn)
    return f"{copy.as_uri()}?mode={'rw' if source.sidecars else 'ro&immutable=1'}"


def _torn_bytes(path: Path) -> int:
    """Return the length of an incomplete last page: 0 for a sound database, and for a file that is not one."""
    with path.open("rb") as file:
        header = file.read(100)
        size = file.seek(0, os.SEEK_END)
    page = int.from_bytes(header[16:18], "big")
    page = 65536 if page == 1 else page  # section 1.3.2 of sqlite.org/fileformat.html
    return size % page if header.startswith(b"SQLite format 3\0") and page >= 512 else 0


def _is_torn_log(path: Path) -> bool:
    """Whether a write-ahead log ends within a frame or a transaction, or is not one.

    See section 4 of sqlite.org/fileformat.html. The log may end with frames of an earlier round, whose salts differ
    from the header's.
    """
    with path.open("rb") as file:
        header = file.read(32)
        page = int.from_bytes(header[8:12], "big")
        size = file.seek(0, os.SEEK_END)
        if len(header) < 32 or header[:3] != b"\x37\x7f\x06" or (size - 32) % (24 + page):
            return True
        file.seek(max(32, size - 24 - page))
        frame = file.read(24)
    return frame[8:16] == header[16:24] and frame[4:8] == bytes(4)  # a frame of this round that is not a commit
