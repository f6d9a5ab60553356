"""What goes over a connection that stays open, between the control loop and a node's program (the verb "attend")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from .description import InstanceRef
from .json_records import Record
from .leases import Lease
from .node_state import NodeState

LIMIT = 16 * 2**20  # bytes of a line
# With this begins what a node says to a controller that it does not obey, and so its program's last line.
ELSEWHERE = "this node is attended by"


@dataclass(frozen=True)
class Attend(Record):
    """Of the call that opens it. controller: a name of its own for each.

    takeover: a person had it take over from another one, whose term must be lower; term: when, in seconds of 1970.
    """

    work_dir: str
    owner: str
    controller: str
    term: int
    interval_seconds: float
    memory_percent: float
    disk_percent: float
    takeover: bool = False


@dataclass(frozen=True)
class Renewal(Record):
    """A line from the controller: lets an instance act, and starts it again where its lease had ended."""

    instance_ref: InstanceRef
    lease: Lease


@dataclass(frozen=True)
class Report(Record):
    """A line from the node, at every change and every interval. clock: CLOCK_BOOTTIME when it was measured.

    refused: why renewals were refused since the last report. closing: why the node closes the connection, in its last
    line.
    """

    boot: str
    clock: float
    state: NodeState
    refused: Tuple[str, ...] = ()
    closing: str = ""
