"""The launch spec: how an instance is started, in words that no particular supervisor owns.

Argument lists and limits, no unit text and no quoting: `node` makes systemd's units of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

from .description import Capacity, InstanceDescription, InstanceRef
from .exits import Exit
from .json_records import Record
from .names import LLAMA, RELAY, WORKLOAD, instance_folder


@dataclass(frozen=True)
class Limits(Record):
    """What the instance may take at most: its llama-server and its workload together."""

    memory_bytes: int
    cpu_percent: int  # of one core: 250 is two and a half cores
    tasks: int = 512


@dataclass(frozen=True)
class Process(Record):
    """A program to run: argument list, working directory, and the addresses that it may reach (None: any)."""

    command: Tuple[str, ...]
    working_dir: str
    allowed_addresses: Optional[Tuple[str, ...]] = None


@dataclass(frozen=True)
class Inbound(Record):
    """The way into a private network: the peer port of the node leads to that of the instance, for these addresses."""

    port: int
    callers: Tuple[str, ...]


@dataclass(frozen=True)
class Outbound(Record):
    """A way out of a private network: a port on its loopback leads to one port of one address."""

    to: str  # the id of the instance there
    local_port: int
    address: str
    port: int


@dataclass(frozen=True)
class Checkpoint(Record):
    """What an instance is resumed from: the sha256 of each file, empty without one. exits: of its earlier epochs."""

    database: str = ""
    state: str = ""  # the archive of its files
    slot: str = ""  # llama-server's (`contract.slot`)
    exits: Tuple[Exit, ...] = ()


@dataclass(frozen=True)
class LaunchSpec(Record):
    """Everything that starting an instance takes.

    `llama_server` holds the arguments of llama-server; which build of it runs is known on the node only, so its program
    is "bin/llama-server", below the build's folder.
    """

    description: InstanceDescription
    work_dir: str
    release_dir: str
    owner: str
    workload: Process
    llama_server: Process
    limits: Limits
    restart: bool  # start a process again that died
    starts: int = 10  # not more often than this within `within_seconds`
    within_seconds: float = 60.0
    packages_dir: str = ""  # of the packages that its code asks for
    environment: Mapping[str, str] = field(default_factory=dict)  # of its workload, and of nothing that root runs
    private_network: bool = False  # a network with a loopback only, which its two processes share
    inbound: Optional[Inbound] = None  # with a private network
    outbound: Tuple[Outbound, ...] = ()  # with a private network
    secrets: Tuple[str, ...] = ()  # names of those that its workload is given
    out_of_reach: Tuple[str, ...] = ()  # addresses of its node and of others that its receipt tries to reach
    capacity: Capacity = Capacity(0.0, 0.0, 1)
    checkpoint: Optional[Checkpoint] = None  # of an instance that is resumed
    relay: Optional[Process] = None  # where somebody observes the instance
    health: Mapping[str, str] = field(
        default_factory=dict
    )  # {unit: URL that must answer 200 before it counts as started}

    @property
    def run_id(self) -> str:
        return self.description.run_id

    @property
    def id(self) -> str:
        return self.description.id

    @property
    def dir(self) -> str:
        """The instance's folder on its node."""
        return instance_folder(self.work_dir, self.run_id, self.id)

    @property
    def ref(self) -> InstanceRef:
        """What names the instance from now on."""
        node, ports = self.description.node, self.description.ports
        return InstanceRef(self.run_id, self.id, node, self.work_dir, self.owner, self.relay is not None, ports)

    @property
    def needs_credentials(self) -> bool:
        """Whether its workload is given keys or secrets."""
        return bool(self.description.peers or self.description.observes or self.secrets)

    @property
    def processes(self) -> Mapping[str, Process]:
        """{unit: process} in the order of their starting."""
        found = {LLAMA: self.llama_server, WORKLOAD: self.workload}
        return {**found, RELAY: self.relay} if self.relay else found
