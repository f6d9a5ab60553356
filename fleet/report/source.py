"""The contents of a run's folder, as far as they can be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from contract.events import Collected, Event, Unreadable
from fleet.base.errors import FleetError
from fleet.record.run_folder import SIGNATURE, Recorded, Run
from fleet.results.merged_database import DATABASE, Merged

FILES = {
    "manifest.json": "what was run",
    "plan.json": "where, and why there",
    "events.jsonl": "what happened",
    "memory.json": "memory predicted and measured",
    "logs": "of each instance: its journal, the exits of its processes, its stream",
    "db": "of each instance: its database",
    DATABASE: "all databases merged",
}


@dataclass
class Source:
    """A run's record. `faults` names what cannot be read; its place stays empty."""

    run: Run
    db: Merged | None
    faults: list[str] = field(default_factory=list)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    events: list[Recorded] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("manifest", "plan"):
            try:
                setattr(self, name, getattr(self.run, name))
            except FleetError as error:
                self.faults.append(str(error))
        path = self.run.path / "memory.json"
        if path.exists():
            try:
                self.memory = mapping(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                self.faults.append(f"{path.name}: cannot be read: {error}")
        try:
            self.events = self.run.events()
        except OSError as error:
            self.faults.append(f"events.jsonl: cannot be read: {error}")
        torn = [str(event.line) for _, event in self.events if isinstance(event, Unreadable)]
        if torn:
            self.faults.append(f"events.jsonl: line {', '.join(torn)} cannot be read")

    @property
    def nodes(self) -> dict[str, str]:
        """The node of each instance, from the plan."""
        return {str(id): str(node) for id, node in mapping(self.plan.get("assignments")).items()}

    def happened(self, *kinds: type[Event]) -> list[Recorded]:
        """Return the events of these kinds."""
        return [one for one in self.events if isinstance(one.event, kinds)]

    @property
    def collected(self) -> tuple[str, Collected] | None:
        """The time and result of the last collection; None before the first one."""
        found = [(time, event) for time, event in self.events if isinstance(event, Collected)]
        return found[-1] if found else None

    @property
    def is_signed(self) -> bool:
        """Whether the manifest has a signature; `playbooks/replay.yml` verifies it."""
        return (self.run.path / SIGNATURE).is_file()

    @property
    def files(self) -> dict[str, str]:
        """The parts of the record that exist, and what each is."""
        return {name: what for name, what in FILES.items() if (self.run.path / name).exists()}


def mapping(value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def seconds(time: Any) -> float | None:
    """Return a time of the record (ISO 8601) in seconds since 1970; None if it is not a time."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except (TypeError, ValueError):
        return None


def clock(time: Any) -> str:
    """Return a time of the record as text for a person."""
    at = seconds(time)
    return str(time or "-") if at is None else f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M:%S} UTC"


__all__ = ["DATABASE", "Source", "clock", "mapping", "seconds"]
