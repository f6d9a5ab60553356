"""The data of a placement: nodes, and the instances to place on them.

Sizes are GB = 2**30 bytes. They are compared in whole millionths of a GB (about 1 KiB), so that sums of decimal
fractions are exact: 8.0 - 7.7 has room for 0.3, and three times 0.2 fits 0.6.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from contract.statuses import NODE_STATUSES
from placement.faults import BadInput, Fault

NODE_TYPES = ("jetson_orin", "raspberry_pi", "host", "generic")
GPU_DEMANDS = ("required", "preferred", "none")
GPU_MEMORIES = ("unified", "discrete")
NETWORKS = ("isolated", "peers", "open")

PER_GB = 10**6
MAX_GB = 10**6  # a larger size is a typing error


def units(gb: float) -> int:
    """Convert GB to whole millionths of a GB."""
    return round(gb * PER_GB)


def gb(units: int) -> float:
    """Convert whole millionths of a GB to GB."""
    return units / PER_GB


def natural(name: str) -> tuple[list[str | int], str]:
    """Return the key that sorts names in natural order: rpi2 before rpi10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


@dataclass(frozen=True)
class Node:
    """A machine that may run instances (specification: NodeConfig), with what is already allocated on it by other runs.

    On `unified` memory (a Jetson) CPU and GPU share one pool: `allocated_ram_gb` then counts the GPU's part too,
    and `gpu_memory_gb` only limits the GPU's share of the pool (0: all of it).
    """

    name: str
    node_type: str = "generic"
    ram_gb: float = 0.0
    reserved_ram_gb: float = 0.0
    gpu: bool = False
    gpu_memory_gb: float = 0.0
    gpu_memory: str = ""  # unified | discrete; left out: unified on a jetson_orin, else discrete
    cpu_cores: float = 1
    max_instances: int = 1
    status: str = "HEALTHY"
    current_instances: int = 0
    allocated_ram_gb: float = 0.0
    allocated_gpu_memory_gb: float = 0.0
    used_ports: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        unified_or_not = "unified" if self.node_type == "jetson_orin" else "discrete"
        object.__setattr__(self, "gpu_memory", self.gpu_memory or unified_or_not)
        object.__setattr__(self, "used_ports", frozenset(self.used_ports))
        sizes = ("ram_gb", "reserved_ram_gb", "gpu_memory_gb", "allocated_ram_gb", "allocated_gpu_memory_gb")
        problems = {
            **_sizes(self, sizes),
            **_choices(self, node_type=NODE_TYPES, gpu_memory=GPU_MEMORIES, status=NODE_STATUSES),
        }
        if self.max_instances < 1:
            problems["max_instances"] = f"{self.max_instances} is below 1"
        if problems:
            raise BadInput(Fault("Node", f"{self.name}.{key}", problem) for key, problem in problems.items())

    @property
    def unified(self) -> bool:
        """Whether CPU and GPU share one pool of memory."""
        return self.gpu and self.gpu_memory == "unified"

    @property
    def usable_gpu_memory_gb(self) -> float:
        """GPU memory for instances; for a shared pool without a limit of its own, the whole pool."""
        return self.ram_gb if self.unified and not self.gpu_memory_gb else self.gpu_memory_gb

    def takes(self, ram: int, gpu_memory: int, wants_gpu: bool) -> tuple[int, int]:
        """Return (RAM, GPU memory) in units that these sizes take on this node; unified memory is counted once."""
        if not (wants_gpu and self.gpu):
            return ram, 0
        return (max(ram, gpu_memory) if self.gpu_memory == "unified" else ram), gpu_memory


@dataclass(frozen=True)
class Instance:
    """One process group of an experiment (specification: ExperimentInstance): demands, relations, settings."""

    id: str
    # None: left out, and filled in by Experiment.sized() before anything is placed, so a placement always sees a float.
    ram_gb: float = None  # type: ignore[assignment]
    gpu: str = "none"
    gpu_memory_gb: float = 0.0
    preferred_node: str | None = None
    affinity: tuple[str, ...] = ()
    anti_affinity: tuple[str, ...] = ()
    observes: tuple[str, ...] = ()  # the instances whose streams it reads; no effect on the placement
    network: str = "isolated"
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    context_size: int = 4096
    cpu_cores: float | None = None
    disk_gb: float | None = None  # of its folder; no effect on the placement
    secrets: tuple[str, ...] = ()  # names of those that its program is given; no effect on the placement
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)  # no effect on the placement
    seed: int | None = None
    llama: Mapping[str, Any] = field(
        default_factory=dict, hash=False
    )  # of its llama-server; no effect on the placement
    model: Mapping[str, Any] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        for relation in ("affinity", "anti_affinity", "observes", "secrets"):
            object.__setattr__(self, relation, tuple(getattr(self, relation)))
        problems = {
            **_sizes(self, ("ram_gb", "gpu_memory_gb") if self.ram_gb is not None else ("gpu_memory_gb",)),
            **_choices(self, gpu=GPU_DEMANDS, network=NETWORKS),
        }
        if self.ram_gb == 0:
            problems["ram_gb"] = "0 is not above 0"
        if problems:
            raise BadInput(Fault("Instance", f"{self.id}.{key}", problem) for key, problem in problems.items())


def _sizes(thing: Node | Instance, names: Iterable[str]) -> dict[str, str]:
    """Convert the sizes to floats; return the fault of each value that is no size, by name."""
    problems = {}
    for name in names:
        size = float(getattr(thing, name))
        object.__setattr__(thing, name, size)
        if not (math.isfinite(size) and 0 <= size <= MAX_GB):
            problems[name] = f"{size} is not a size between 0 and {MAX_GB} GB"
    return problems


def _choices(thing: Node | Instance, **choices: tuple[str, ...]) -> dict[str, str]:
    """Return the fault of each value that is not one of its allowed choices, by name."""
    return {
        name: f"{getattr(thing, name)!r} is none of {', '.join(known)}"
        for name, known in choices.items()
        if getattr(thing, name) not in known
    }
