"""journalctl: what the units of an instance have printed."""

from __future__ import annotations

import subprocess
from typing import List, Sequence, Tuple

CURSOR = "-- cursor: "


def text(units: Sequence[str], *options: str) -> str:
    """The journal of these units with full timestamps."""
    command = ["journalctl", "--no-pager", "--quiet", "--output=short-iso-precise", *options, *_chosen(units)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, errors="replace").stdout


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


def _chosen(units: Sequence[str]) -> List[str]:
    return [f"--unit={unit}" for unit in units]
