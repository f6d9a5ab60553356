"""journalctl: what the units of an instance have printed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import List, Sequence, Tuple

CURSOR = "-- cursor: "


def text(units: Sequence[str], *options: str) -> str:
    """The journal of these units with full timestamps."""
    return subprocess.run(_command(units, *options), stdout=subprocess.PIPE, text=True, errors="replace").stdout


def write(units: Sequence[str], path: Path, limit: int) -> None:
    """Write the journal of these units to a file, cut off at `limit` bytes."""
    with path.open("wb") as file, subprocess.Popen(_command(units), stdout=subprocess.PIPE) as process:
        assert process.stdout  # noqa: S101 - for the type checker: it is a pipe
        left = limit
        while left > 0:
            block = process.stdout.read(min(left, 2**20))
            if not block:
                return
            file.write(block)
            left -= len(block)
        process.kill()
        file.write(f"\n... cut off at {limit} bytes\n".encode())


def last_line(unit: str) -> str:
    """The last line that a process of the unit itself printed; systemd's lines about it do not count."""
    command = ["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=1", f"_SYSTEMD_UNIT={unit}"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, errors="replace").stdout.strip()


def after(units: Sequence[str], cursor: str, lines: int) -> Tuple[List[str], str]:
    """(the lines after a cursor, or the last so many without one; the cursor after them)."""
    start = f"--after-cursor={cursor}" if cursor else f"--lines={lines}"
    command = ["journalctl", "--no-pager", "--quiet", "--show-cursor", "--output=short-iso", start, *_chosen(units)]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, errors="replace").stdout.splitlines()
    cursor = next((line[len(CURSOR) :] for line in found if line.startswith(CURSOR)), cursor)
    return [line for line in found if not line.startswith(CURSOR)], cursor


def _command(units: Sequence[str], *options: str) -> List[str]:
    return ["journalctl", "--no-pager", "--quiet", "--output=short-iso-precise", *options, *_chosen(units)]


def _chosen(units: Sequence[str]) -> List[str]:
    return [f"--unit={unit}" for unit in units]
