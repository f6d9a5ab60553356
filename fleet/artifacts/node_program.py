"""The program that a node's units run as root (`node/__main__.py`): `node` and `contract` in one Python zip file.

The same sources always make the same bytes, so the file is named by its sha256.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import contract
import node
from fleet.base.files import write_bytes

PACKAGES = (contract, node)
MAIN = "import sys\nfrom node.__main__ import main\nmain(sys.argv[1:])\n"


@dataclass(frozen=True)
class NodeProgram:
    """The program's file on the controller; a check does not create it."""

    path: Path
    sha256: str


def node_program(cache: Path, *, check: bool = False) -> NodeProgram:
    """Return the program in the cache, written if missing; with `check` nothing is written."""
    content = _zip()
    sha256 = hashlib.sha256(content).hexdigest()
    path = cache / "node" / f"{sha256}.pyz"
    if not path.is_file() and not check:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    return NodeProgram(path, sha256)


def _zip() -> bytes:
    sources = {"__main__.py": MAIN.encode()}
    for package in PACKAGES:
        for file in Path(next(iter(package.__path__))).glob("*.py"):
            sources[f"{package.__name__}/{file.name}"] = file.read_bytes()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(sources):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), sources[name])
    return made.getvalue()
