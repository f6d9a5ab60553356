"""What a node reports of itself and of the instances on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

from .json_records import Record, choice
from .progress import Progress
from .promises import Promises
from .statuses import ALIVE, INSTANCE_STATUSES, NODE_STATUSES


@dataclass(frozen=True)
class Gpu(Record):
    """The node's GPU, or its GPUs together. memory: "unified" or "discrete", None without one. GB = 2**30 bytes.

    cards: the memory of each. problem: why what is there cannot be used; empty if nothing is wrong.
    """

    present: bool = False
    memory: Optional[str] = choice(("unified", "discrete"), default=None)
    memory_gb: float = 0.0
    cards: Tuple[float, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class InstanceState(Record):
    """One instance on a node, as its disk and its systemd say now. GB = 2**30 bytes.

    `faults` names what in the instance's own files is nonsense: such an instance is reported with what can be known.
    """

    run_id: str
    id: str
    status: str = choice(INSTANCE_STATUSES)
    dir: str = ""
    experiment: str = ""
    epoch: int = 1  # how often it was resumed, plus 1
    ended: str = ""  # when, ISO 8601; empty while it has no outcome
    ram_gb: float = 0.0
    takes_ram_gb: float = 0.0
    gpu_memory_gb: float = 0.0
    uses_gpu: bool = False
    observed: bool = False  # its stream relay is there
    leased: bool = False  # it acts only while it has a lease
    lease_seconds: float = 0.0  # that are left of its lease; 0: it has none now
    ports: Mapping[str, int] = field(default_factory=dict)
    held_ports: Tuple[int, ...] = ()  # nobody else may have them yet
    deaths: Mapping[str, int] = field(default_factory=dict)  # {unit: how often it died}
    progress: Progress = Progress()
    faults: Tuple[str, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether it holds its slot, memory and ports."""
        return self.status in ALIVE


@dataclass(frozen=True)
class NodeState(Record):
    """A node as it measures itself. GB = 2**30 bytes."""

    status: str = choice(NODE_STATUSES)
    reasons: Tuple[str, ...] = ()  # why it is not HEALTHY
    machine: str = ""
    cores: int = 1
    ram_gb: float = 0.0
    memory_used_percent: float = 0.0
    disk_used_percent: float = 0.0
    gpu: Gpu = Gpu()
    address: str = ""
    python: str = ""
    libc: str = ""  # the version of glibc; empty where it is another one
    program: str = ""  # the sha256 of its program (`names.NODE_PROGRAM`); empty where there is none
    promises: Optional[Promises] = None  # None: not found out since it booted
    instances: Tuple[InstanceState, ...] = ()
