"""Every kind of event that a run's `events.jsonl` can hold. A line is {"time": ISO 8601 UTC, "event": kind, ...fields}.

A new kind is one more class in this file; `register` gives it its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, Type, TypeVar

from .json_records import ContractError, Record
from .receipt import Receipt
from .slot import Restored

E = TypeVar("E", bound="Type[Event]")
KINDS: Dict[str, Type[Event]] = {}


class Event(Record):
    """Base of every event."""

    kind = ""


def register(kind: str) -> Callable[[E], E]:
    """Class decorator: this class is the event of that kind."""

    def add(cls: E) -> E:
        cls.kind = kind
        KINDS[kind] = cls
        return cls

    return add


@register("created")
@dataclass(frozen=True)
class Created(Event):
    """The run's folder was made."""

    run_id: str = ""


@register("placed")
@dataclass(frozen=True)
class Placed(Event):
    """The plan: which instance goes to which node. saved: the plan's file, where it came from one."""

    assignments: Mapping[str, str] = field(default_factory=dict)
    score: Optional[float] = None
    strategy: str = ""
    seed: Optional[int] = None
    counterbalance: Optional[Mapping[str, Any]] = None
    saved: str = ""


@register("damaged")
@dataclass(frozen=True)
class Damaged(Event):
    """A model that is on a node is not what its sha256 says; it was sent again."""

    node: str
    artifact: str


@register("launched")
@dataclass(frozen=True)
class Launched(Event):
    """An instance started. instance: `a@jetson`."""

    instance: str
    status: str = ""


@register("receipt")
@dataclass(frozen=True)
class Received(Event):
    """An instance's receipt: what was tried from inside its unit before its code ran. instance: `a@jetson`."""

    instance: str
    receipt: Receipt


@register("launch_failed")
@dataclass(frozen=True)
class LaunchFailed(Event):
    """An instance did not start. instance: `a@jetson`."""

    instance: str
    reason: str = ""


@register("checkpointed")
@dataclass(frozen=True)
class Checkpointed(Event):
    """A checkpoint was kept. instances: {instance: the epoch that it is of}."""

    checkpoint: str
    instances: Mapping[str, int] = field(default_factory=dict)


@register("moves")
@dataclass(frozen=True)
class Moves(Event):
    """A playbook begins to start these instances anew. stopped: those that it stops for that."""

    instances: Tuple[str, ...] = ()
    stopped: Tuple[str, ...] = ()


@register("resumed")
@dataclass(frozen=True)
class Resumed(Event):
    """An instance is started again, in a new epoch, from a checkpoint.

    left: {table: rows that are in the database of the epoch before, and not in the checkpoint}. without_slot: why its
    llama-server is not given the slot that it had; empty: it is.
    """

    instance: str
    epoch: int
    node: str
    checkpoint: str = ""
    left: Mapping[str, int] = field(default_factory=dict)
    without_slot: str = ""


@register("restored")
@dataclass(frozen=True)
class SlotRestored(Event):
    """What came of giving its slot to the llama-server of an instance that is resumed. instance: `a@jetson`."""

    instance: str
    came: Restored


@register("recovered")
@dataclass(frozen=True)
class Recovered(Event):
    """What an earlier epoch of an instance had left on a node that was away came home, beside the record's databases.

    rows: {table: rows of it that are in no checkpoint}; they are not merged.
    """

    instance: str
    epoch: int
    node: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)


@register("waits")
@dataclass(frozen=True)
class Waits(Event):
    """Nothing can be done for an instance now that does not run: why."""

    instance: str
    reason: str = ""


@register("status")
@dataclass(frozen=True)
class StatusChanged(Event):
    """An instance has another status than before."""

    instance: str
    status: str
    node: str = ""


@register("died")
@dataclass(frozen=True)
class Died(Event):
    """A process of an instance died, for the `deaths`-th time."""

    instance: str
    unit: str
    deaths: int = 1
    node: str = ""


@register("instance_fault")
@dataclass(frozen=True)
class InstanceFault(Event):
    """A file of an instance holds something that it must not hold."""

    instance: str
    fault: str
    node: str = ""


@register("node_status")
@dataclass(frozen=True)
class NodeStatusChanged(Event):
    """A node has another status than before."""

    node: str
    status: str
    reasons: Tuple[str, ...] = ()


@register("node_lost")
@dataclass(frozen=True)
class NodeLost(Event):
    """A node has not answered for so long that it was given up. last_heard: ISO 8601, empty in older runs."""

    node: str
    last_heard: str = ""
    reason: str = ""


@register("collected")
@dataclass(frozen=True)
class Collected(Event):
    """Results came home. rows: merged rows of each instance; problems: of its database; memory: its figures in GB."""

    statuses: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)


@register("failed")
@dataclass(frozen=True)
class TaskFailed(Event):
    """A task of a playbook failed on a host."""

    host: str
    task: str = ""
    reason: str = ""


@register("unreachable")
@dataclass(frozen=True)
class HostUnreachable(Event):
    """A host did not answer a playbook."""

    host: str
    task: str = ""
    reason: str = ""


@register("ended")
@dataclass(frozen=True)
class PlaybookEnded(Event):
    """A playbook came to its end; ok: nothing failed."""

    ok: bool = True


@register("unreadable")
@dataclass(frozen=True)
class Unreadable(Event):
    """A line that is no event: torn by a crash, or of a kind that this version does not know. Never written."""

    line: int
    text: str


def to_json(event: Event, time: str) -> Dict[str, Any]:
    """The line of an event."""
    return {"time": time, "event": event.kind, **event.to_json()}


def from_json(value: Any, line: int, text: str) -> Tuple[str, Event]:
    """(time, event) of a line; Unreadable for what is none."""
    known = isinstance(value, dict) and isinstance(value.get("event"), str) and KINDS.get(value["event"])
    if not known or known is Unreadable:
        return "", Unreadable(line, text)
    try:
        event = known.from_json(value, f"events.jsonl: line {line}")
    except ContractError:
        return "", Unreadable(line, text)
    return str(value.get("time", "")), event
