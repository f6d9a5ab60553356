"""logs/exits.jsonl: how each process of the instance ended, as the node saw it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def ends(directory: Path, unit: str = "") -> list[dict[str, Any]]:
    """The lines so far, of one unit if named; a torn line is passed over."""
    path, found = directory / "logs" / "exits.jsonl", []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            end = json.loads(line)
        except ValueError:
            continue
        if not unit or end["unit"] == unit:
            found.append(end)
    return found


def begin(directory: Path, node: str) -> dict[str, Any] | None:
    """A process of the workload starts: the line of the end of the one before it, None at the first start."""
    before = ends(directory, "workload")
    return before[-1] if before else None


def words(end: dict[str, Any]) -> str:
    """An end for a person, and for the mind."""
    return str(end.get("cause", "killed")).replace("_", " ")
