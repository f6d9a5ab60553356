"""What the control loop knows and decides: desired state, observed state, actions. Values only.

Times are seconds of the controller's own steady clock, unless they are a node's: those are CLOCK_BOOTTIME of one boot
of that node, and mean nothing to anybody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

NEVER = float("inf")


class Key(NamedTuple):
    """Names an instance of a run."""

    run_id: str
    id: str


@dataclass(frozen=True)
class Settings:
    """How the loop behaves. Times in seconds."""

    interval: float = 5.0  # between two looks
    lease: float = 40.0  # an instance acts so long after its node was last heard of
    stopping: float = 1.0  # that ending it may take then, with the accuracy of the node's timer
    clock_factor: float = 1.2  # (1 + e) / (1 - e) for clocks whose rates are wrong by e; chrony slews by 8.3 %
    lost_after: float = 10.0  # of silence: a node is lost
    most_lost_percent: float = 50.0  # of the nodes; more are the controller's own trouble

    @property
    def wait(self) -> float:
        """How long after a node's answer arrived a lease that was counted from it has certainly ended on that node.

        (L + A + K) (1 + e) / (1 - e): see docs/architecture.md, "What the control loop decides".
        """
        return (self.lease + self.stopping) * self.clock_factor


@dataclass(frozen=True)
class Wanted:
    """One instance as it should be.

    epoch: the newest that was ever sent to a node, and `node` where to. safe_at: from then on nothing that was sent so
    far lets any epoch act, whatever became of the messages and their nodes.
    """

    epoch: int
    node: str
    movable: bool = True
    stopped: bool = False  # a person's word
    moving: bool = False  # it is stopped where it is, to be started elsewhere
    safe_at: float = NEVER
    outcome: str = ""  # once it has ended for good


@dataclass(frozen=True)
class Desired:
    """What must survive the controller: written down before it is acted on.

    drained: the nodes that a person wants empty. strangers: those that have not answered since this controller took
    over from another one: they may still obey that.
    """

    instances: Mapping[Key, Wanted] = field(default_factory=dict)
    drained: frozenset[str] = frozenset()
    strangers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Seen:
    """One instance as its node reports it.

    until: its lease, in its node's time; None: it has none, so it does not act before it gets one. outcome: of one that
    has ended.
    """

    epoch: int
    until: float | None = None
    outcome: str = ""


@dataclass(frozen=True)
class Report:
    """What a node said last. at: when it arrived. boot, clock: which boot of the node that was, and its time then."""

    at: float
    boot: str
    clock: float
    instances: Mapping[Key, Seen] = field(default_factory=dict)
    fit: bool = True  # new instances may go there


@dataclass(frozen=True)
class Observed:
    """The nodes, by their last reports; one that was never heard of has none.

    taken: those that refuse this controller, since another one has taken them over.
    """

    nodes: tuple[str, ...]
    reports: Mapping[str, Report]
    taken: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Grant:
    """Lets an epoch of an instance act until a moment of this boot of its node."""

    node: str
    key: Key
    epoch: int
    boot: str
    until: float


class Renew(Grant):
    """Let the epoch that is on the node go on."""


class Start(Grant):
    """Start the instance in a new epoch, from its last checkpoint."""


@dataclass(frozen=True)
class Stop:
    """Stop this epoch of an instance. moving: it goes on elsewhere."""

    node: str
    key: Key
    epoch: int
    moving: bool = False


@dataclass(frozen=True)
class Adopt:
    """Another controller has started an instance anew: this is where, and in which epoch."""

    node: str
    key: Key
    epoch: int


@dataclass(frozen=True)
class Finish:
    """Nothing is to be done about this instance any more."""

    key: Key
    outcome: str


@dataclass(frozen=True)
class Wait:
    """An instance does not run, or is not as it should be, and nothing can be done now: why."""

    key: Key
    reason: str


Action = Renew | Start | Stop | Adopt | Finish | Wait
