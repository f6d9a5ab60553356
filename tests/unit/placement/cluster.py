"""What the placement tests share: nodes named for what they are, and a checker that knows nothing of the engine."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from placement import Instance, Node, Plan

ROOT = Path(__file__).resolve().parents[3]


def jetson(**changes: Any) -> Node:
    """The specification's Jetson: 56 GB free of one pool."""
    values = {"ram_gb": 64, "reserved_ram_gb": 8, "gpu": True, "gpu_memory_gb": 64, "max_instances": 4}
    return Node(**{"name": "jetson", "node_type": "jetson_orin", **values, **changes})


def cpu(name: str = "cpu", **changes: Any) -> Node:
    """A plain machine: 10 GB free, 2 slots."""
    return Node(**{"name": name, "ram_gb": 10, "max_instances": 2, **changes})


def discrete(name: str = "pc", **changes: Any) -> Node:
    """A machine with a graphics card of 8 GB beside its 16 GB of RAM."""
    return Node(**{"name": name, "ram_gb": 16, "gpu": True, "gpu_memory_gb": 8, "max_instances": 4, **changes})


def violations(nodes: Iterable[Node], instances: Iterable[Instance], plan: Plan, pins: Mapping[str, str]) -> list[str]:
    """Hard constraints of DESIGN that a whole plan breaks, worked out from its assignments alone."""
    instances, wrong = list(instances), []
    if set(plan.assignments) != {instance.id for instance in instances}:
        wrong.append("not every instance is placed once")
    for id, name in pins.items():
        if plan.assignments[id] != name:
            wrong.append(f"{id} is not where it is pinned")
    for one in instances:
        for other in instances:
            apart = other.id in one.anti_affinity or one.id in other.anti_affinity
            if one.id != other.id and apart and plan.assignments[one.id] == plan.assignments[other.id]:
                wrong.append(f"{one.id} and {other.id} are together")
    for node in nodes:
        here = [instance for instance in instances if plan.assignments[instance.id] == node.name]
        ram = gpu_memory = 0.0
        for instance in here:
            on_gpu = node.gpu and instance.gpu in ("required", "preferred")
            if instance.gpu == "required" and not node.gpu:
                wrong.append(f"{instance.id} has no GPU")
            pooled = on_gpu and node.gpu_memory == "unified"
            ram += max(instance.ram_gb, instance.gpu_memory_gb) if pooled else instance.ram_gb
            gpu_memory += instance.gpu_memory_gb if on_gpu else 0
        ports = [port for instance in here for port in plan.ports[instance.id].values()]
        if here and node.status != "HEALTHY":
            wrong.append(f"{node.name} is {node.status}")
        if here and node.current_instances + len(here) > node.max_instances:
            wrong.append(f"{node.name} has no slot")
        if here and ram > node.ram_gb - node.reserved_ram_gb - node.allocated_ram_gb + 1e-6:
            wrong.append(f"{node.name} has too little RAM")
        if gpu_memory > max(0, node.gpu_memory_gb - node.allocated_gpu_memory_gb) + 1e-6:
            wrong.append(f"{node.name} has too little GPU memory")
        if (
            len(set(ports)) != 2 * len(here)
            or set(ports) & node.used_ports
            or not all(9000 <= p <= 9100 for p in ports)
        ):
            wrong.append(f"{node.name} gives ports out twice")
    return wrong
