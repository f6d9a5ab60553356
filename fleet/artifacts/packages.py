"""Packages that the user's code asks for: resolved here by pip, as wheels, into a folder for one kind of node.

    <cache>/packages/<digest>/      the folder, named for the hash of its content; nodes get it as it is
    <cache>/packages/index.json     which folder the same request gave before, so that it gives the same again

Nothing is built: somebody's setup.py would run as the user who deploys. Nodes need no pip and no index.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.json_records import Record
from fleet.artifacts import source_tree
from fleet.base.addresses import redacted
from fleet.base.errors import ReleaseError
from fleet.base.files import locked, read_object, write_json

FILES = ("requirements.lock", "requirements.txt")  # beside the user's code; the first one that is there counts
OLDEST_GLIBC = 17  # the minor version of manylinux2014
RESOLVE_SECONDS = 1800


@dataclass(frozen=True)
class Kind(Record):
    """A kind of node: its Python ("3.11"), its machine ("aarch64") and its glibc ("2.36"; empty: not known)."""

    python: str
    machine: str
    libc: str = ""

    def __str__(self) -> str:
        return f"Python {self.python} on {self.machine}{f' with glibc {self.libc}' if self.libc else ''}"

    @property
    def platforms(self) -> list[str]:
        """The platforms whose wheels run there, as wheels are tagged."""
        _, _, minor = self.libc.partition(".")
        newest = int(minor) if minor.isdigit() else OLDEST_GLIBC
        tags = [f"manylinux_2_{each}" for each in range(newest, OLDEST_GLIBC - 1, -1)]
        return [f"{tag}_{self.machine}" for tag in (*tags, "manylinux2014", "linux")]


@dataclass(frozen=True)
class Packages(Record):
    """A folder of packages. wanted: what was resolved, each as a line of a requirements file with its hash."""

    digest: str
    src: str
    wanted: tuple[str, ...]


def requirements(code: Path) -> str:
    """Return the text of the requirements file in a folder of code; "" without one. Raise ReleaseError."""
    path = next((code / name for name in FILES if (code / name).is_file()), None)
    try:
        return path.read_text(encoding="utf-8") if path else ""
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{path}: cannot be read: {error}") from error


def resolve(text: str, kind: Kind, cache: Path, *, check: bool = False) -> Packages:
    """Return the packages that a requirements file asks for, for one kind of node.

    check: write nothing to the cache, so their folder may not be there. Raise ReleaseError with what pip says, such as
    that a package has no wheel for this kind.
    """
    folder = cache / "packages"
    asked = hashlib.sha256(json.dumps([text, kind.to_json()], sort_keys=True).encode()).hexdigest()
    before = _index(folder).get(asked)
    if isinstance(before, dict):
        known = Packages(before["digest"], str(folder / before["digest"]), tuple(before["wanted"]))
        if Path(known.src).is_dir():
            return known
    with tempfile.TemporaryDirectory(prefix="jarfleet.packages.") as scratch:
        made, wanted = _installed(text, kind, Path(scratch))
        digest = _digest(made)
        found = Packages(digest, str(folder / digest), wanted)
        if not check:
            _keep(made, found, asked)
    return found


def again(packages: Packages, kind: Kind, cache: Path, *, check: bool = False) -> Packages:
    """Return recorded packages: from the cache, or resolved anew by their hashes. Raise ReleaseError."""
    kept = cache / "packages" / packages.digest
    if kept.is_dir():
        return Packages(packages.digest, str(kept), packages.wanted)
    return resolve("\n".join(packages.wanted), kind, cache, check=check)


def _installed(text: str, kind: Kind, scratch: Path) -> tuple[Path, tuple[str, ...]]:
    """Have pip install into a folder; return it, and what was installed."""
    asked, report, target = scratch / "requirements.txt", scratch / "report.json", scratch / "packages"
    asked.write_text(text, encoding="utf-8")
    platforms = [word for platform in kind.platforms for word in ("--platform", platform)]
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--only-binary=:all:", "--no-compile", "--target", str(target), "--report", str(report)),
        *("--implementation", "cp", "--python-version", kind.python, *platforms, "--requirement", str(asked)),
    ]
    try:
        done = subprocess.run(  # noqa: S603 - no shell; what is in the file is the user's own
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=RESOLVE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ReleaseError(f"pip was not done in {RESOLVE_SECONDS} s") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or done.stderr.splitlines()
        raise ReleaseError(redacted("; ".join(line.removeprefix("ERROR: ") for line in said[-2:]))[:2000])
    if not target.is_dir():
        target.mkdir()  # nothing was asked for
    _strip(target)
    return target, tuple(_wanted(json.loads(report.read_text(encoding="utf-8"))))


def _strip(target: Path) -> None:
    """Remove what depends on this machine: programs, which name its Python, and who asked for what."""
    shutil.rmtree(target / "bin", ignore_errors=True)
    for info in target.glob("*.dist-info"):
        (info / "REQUESTED").unlink(missing_ok=True)
        gone = ("../../bin/", f"{info.name}/REQUESTED,")
        record = info / "RECORD"
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not line.startswith(gone)), encoding="utf-8")


def _wanted(report: dict[str, Any]) -> Iterator[str]:
    """Yield what pip's report says was installed, as lines of a requirements file."""
    for one in sorted(report.get("install", []), key=lambda one: str(one["metadata"]["name"]).lower()):
        name, version = one["metadata"]["name"], one["metadata"]["version"]
        digest = one["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256", "")
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ReleaseError(f"{name}: is no file with a hash; name it as <name>==<version>")
        yield f"{name}=={version} --hash=sha256:{digest}"


def _digest(folder: Path) -> str:
    entries = source_tree.read(folder, "packages", ignores=False, never=()).entries
    return source_tree.fingerprint((entry, entry.sha256()) for entry in entries)


def _keep(made: Path, found: Packages, asked: str) -> None:
    folder = Path(found.src).parent
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not Path(found.src).is_dir():
            aside = Path(tempfile.mkdtemp(prefix=".keeping.", dir=folder))
            shutil.copytree(made, aside / "packages")
            (aside / "packages").rename(found.src)
            aside.rmdir()
        write_json(folder / "index.json", {**_index(folder), asked: found.to_json()})


def _index(folder: Path) -> dict[str, Any]:
    return read_object(folder / "index.json")


def kinds_of(states: Sequence[tuple[str, Any]]) -> dict[Kind, list[str]]:
    """Return {kind: its nodes} of (node, NodeState) pairs."""
    found: dict[Kind, list[str]] = {}
    for name, state in states:
        found.setdefault(Kind(".".join(state.python.split(".")[:2]), state.machine, state.libc), []).append(name)
    return found
