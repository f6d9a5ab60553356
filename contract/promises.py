"""What a node can promise about the instances on it: found out once per boot, before anything is planned.

A kernel or a systemd that cannot do what a unit asks for mostly says nothing, so it is tried.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, NamedTuple, Tuple

from .json_records import Record

FILE = "/run/jarfleet/promises.json"  # root's; gone when the node starts again
LIMIT = 65536  # bytes


class Promise(NamedTuple):
    """One promise. needed: no instance goes to a node that does not make it, unless weaker isolation is accepted."""

    words: str
    needed: bool
    cure: str = ""


PROMISES: Mapping[str, Promise] = {
    "memory_limit": Promise(
        "an instance gets no more memory than its own",
        True,
        "boot the kernel with cgroup_enable=memory; on a Raspberry Pi in /boot/firmware/cmdline.txt",
    ),
    "private_network": Promise("an instance reaches nothing but what it may", True, "a kernel with network namespaces"),
    "exit_records": Promise("each exit is recorded by root", True, "systemd 240 or newer"),
    "cpu_limit": Promise("an instance gets no more CPU than its own", False),
    "address_rules": Promise("only the nodes of its peers and observers reach an instance's ports", False),
    "private_processes": Promise("an instance sees no process of others", False),
}


@dataclass(frozen=True)
class Promises(Record):
    """What one node promises. kept: {promise: whether it held when it was tried}."""

    kept: Mapping[str, bool] = field(default_factory=dict)
    systemd: int = 0  # its version

    @property
    def lacking(self) -> Tuple[str, ...]:
        """The promises that the node does not make."""
        return tuple(name for name in PROMISES if not self.kept.get(name))

    @property
    def needed(self) -> Tuple[str, ...]:
        """Those of them without which no instance goes to the node."""
        return tuple(name for name in self.lacking if PROMISES[name].needed)
