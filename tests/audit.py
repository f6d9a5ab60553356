"""`make audit ADVISORIES=all.zip`: the pins of requirements.lock against advisories in a file, without a network.

The file is of OSV's format (https://ossf.github.io/osv-schema/): a JSON object, a list of them, or a zip of such files,
as OSV offers for all of PyPI: https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip

Exit code: 0 no advisory applies, 1 some do, 2 a file cannot be read.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from fleet.base.text_table import table

LOCK = Path("requirements.lock")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


class Finding(NamedTuple):
    """An advisory that applies to a pin."""

    package: str
    version: str
    advisory: str
    summary: str


def pins(lock: Path) -> list[tuple[str, str]]:
    """Return (package, version) of every pin; a package may have one for each version of Python."""
    return [(canonicalize_name(name), version) for name, version in PIN.findall(lock.read_text())]


def advisories(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield every advisory of a file. Raise OSError, ValueError."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            texts = [archive.read(name) for name in archive.namelist() if name.endswith(".json")]
    else:
        texts = [path.read_bytes()]
    for text in texts:
        read = json.loads(text)
        for one in read if isinstance(read, list) else [read]:
            if not isinstance(one, dict):
                raise ValueError(f"expected an object, found {one!r}"[:200])
            yield one


def findings(lock: Path, known: Iterator[Mapping[str, Any]]) -> list[Finding]:
    """Return the advisories that apply to the lock's pins, withdrawn ones left out."""
    pinned: dict[str, list[str]] = {}
    for name, version in pins(lock):
        pinned.setdefault(name, []).append(version)
    return sorted(
        {
            Finding(name, version, advisory["id"], str(advisory.get("summary", "")))
            for advisory in known
            if not advisory.get("withdrawn")
            for affected in advisory.get("affected", [])
            if affected.get("package", {}).get("ecosystem") == "PyPI"
            for name in [canonicalize_name(affected["package"]["name"])]
            for version in pinned.get(name, [])
            if is_affected(version, affected)
        }
    )


def is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    """Whether a version is among those that an advisory names, one by one or as a range."""
    if version in affected.get("versions", []):
        return True
    ranges = (one for one in affected.get("ranges", []) if one.get("type") == "ECOSYSTEM")
    return any(_in_range(Version(version), one.get("events", [])) for one in ranges)


def _in_range(version: Version, events: list[Mapping[str, str]]) -> bool:
    inside = False
    for event in events:
        ((kind, text),) = event.items()
        try:
            bound = Version(text)
        except InvalidVersion:
            continue
        if kind == "introduced" and version >= bound:
            inside = True
        elif (kind == "fixed" and version >= bound) or (kind == "last_affected" and version > bound):
            inside = False
    return inside


def main(path: str) -> int:
    """Print what applies, and return the exit code."""
    try:
        found = findings(LOCK, advisories(Path(path)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"{path}: cannot be read as advisories of OSV's format: {error}", file=sys.stderr)
        return 2
    if found:
        print(table(["package", "version", "advisory", "summary"], found))
        return 1
    print(f"{len(pins(LOCK))} pins, none with an advisory in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
