"""The program that does on a node what takes root (`node/__main__.py`): `node` and `contract` in one Python zip file.

One file, so that its sha256 covers all of it: sudo may be told to run it and nothing else. The same sources always make
the same bytes, so it is named by that sha256.
"""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import contract
import node
from fleet.base.files import write_bytes

PACKAGES = (contract, node)
SHEBANG = b"#!/usr/bin/python3 -I\n"  # isolated: nothing of the caller's decides what is imported
MAIN = "import sys\nfrom node.__main__ import main\nmain(sys.argv[1:])\n"


@dataclass(frozen=True)
class NodeProgram:
    """The program's file on the controller."""

    path: Path
    sha256: str


def node_program(cache: Path) -> NodeProgram:
    """Return the program in the cache, written if missing."""
    path = cache / "node" / f"{sha256()}.pyz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, _zip())
    return NodeProgram(path, sha256())


def sha256() -> str:
    """Return what names the program of this version."""
    return hashlib.sha256(_zip()).hexdigest()


@functools.lru_cache(maxsize=1)
def _zip() -> bytes:
    sources = {"__main__.py": MAIN.encode()}
    for package in PACKAGES:
        for file in Path(next(iter(package.__path__))).glob("*.py"):
            sources[f"{package.__name__}/{file.name}"] = file.read_bytes()
    made = io.BytesIO()
    made.write(SHEBANG)
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(sources):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), sources[name])
    return made.getvalue()
