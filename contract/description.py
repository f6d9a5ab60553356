"""`instance.json`: what an instance is, as its node and its workload read it; and the short form that names one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Tuple

from .json_records import Record
from .names import instance_folder

LIMIT = 64 * 2**20  # bytes; the settings of an experiment's minds are in it


@dataclass(frozen=True)
class Resources(Record):
    """What an instance takes of its node. GB = 2**30 bytes; on unified memory the GPU's part is in takes_ram_gb."""

    ram_gb: float = 0.0
    takes_ram_gb: float = 0.0
    gpu_memory_gb: float = 0.0
    uses_gpu: bool = False
    cpu_cores: float = 1.0
    disk_gb: float = 0.0  # of its folder; 0: not declared, so by the disk's room


@dataclass(frozen=True)
class Capacity(Record):
    """What a node has for instances. GB = 2**30 bytes."""

    ram_gb: float
    gpu_memory_gb: float
    max_instances: int


@dataclass(frozen=True)
class InstanceDescription(Record):
    """One instance of a run. Without `database` it is experiments.db in `dir`."""

    run_id: str
    id: str
    dir: Path
    llama_url: str
    database: Path = Path()
    experiment: str = ""
    node: str = ""
    port: int = 9000  # its peer port, also in `ports`
    ports: Mapping[str, int] = field(default_factory=dict)
    peers: Mapping[str, str] = field(default_factory=dict)  # {instance: address} of those that it talks to
    observes: Mapping[str, str] = field(default_factory=dict)  # {instance: address of the relay of its stream}
    instances: Tuple[str, ...] = ()  # whom it knows of: all of the run but its observers
    workload: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 1  # rises each time that the instance is resumed
    moved: bool = False  # into this epoch as planned: the life that it was in goes on
    leased: bool = False  # it acts only while it has a lease (`contract.leases`), so that it may be moved
    seed: int = 1
    context_size: int = 4096
    model: Mapping[str, str] = field(default_factory=dict)  # "path" on the node, "sha256"
    release: str = ""
    resources: Resources = Resources()
    results: Tuple[str, ...] = ()  # patterns of the files in its folder that come home
    state: Tuple[str, ...] = ()  # and of those that it gets back when it is resumed
    slot_bytes: int = 0  # that llama-server's slot may take, beside what its folder may have; 0: it is not saved

    def __post_init__(self) -> None:
        if self.database == Path():
            object.__setattr__(self, "database", self.dir / "experiments.db")
        if not self.instances:
            object.__setattr__(self, "instances", (self.id,))


@dataclass(frozen=True)
class InstanceRef(Record):
    """Names an instance on its node: enough to stop it, to collect it, and to follow it."""

    run_id: str
    id: str
    node: str
    work_dir: str
    owner: str  # the user by whom Ansible logs in
    observed: bool = False
    ports: Mapping[str, int] = field(default_factory=dict)

    @property
    def dir(self) -> str:
        """The instance's folder on its node."""
        return instance_folder(self.work_dir, self.run_id, self.id)
