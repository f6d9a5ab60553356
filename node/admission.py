"""Admission: whether an instance fits beside those that a node already holds. Decided under the node's lock."""

from __future__ import annotations

from typing import List, Sequence

from contract.description import Capacity, InstanceDescription
from contract.node_state import InstanceState


def shortfalls(
    wanted: InstanceDescription, capacity: Capacity, others: Sequence[InstanceState], free_disk_gb: float
) -> List[str]:
    """The reasons why an instance cannot be admitted; empty if it can. GB are 2**30 bytes."""
    mine, found = wanted.resources, []
    alive = [other for other in others if other.alive]
    if len(alive) >= capacity.max_instances:
        found.append(f"{len(alive)} of {capacity.max_instances} slots are taken")
    pools = [("RAM", capacity.ram_gb, mine.takes_ram_gb, [other.takes_ram_gb for other in alive])]
    if mine.uses_gpu:
        held = [other.gpu_memory_gb for other in alive if other.uses_gpu]
        pools.append(("GPU memory", capacity.gpu_memory_gb, mine.gpu_memory_gb, held))
    for what, has, needs, taken in pools:
        if sum(taken) + needs > has + 1e-6:
            found.append(f"{sum(taken):.1f} of {has:.1f} GB of {what} are taken, it needs {needs:.1f}")
    if mine.disk_gb > free_disk_gb:
        found.append(f"{free_disk_gb:.1f} GB of disk are free, it declares {mine.disk_gb:.1f}")
    clashes = set(wanted.ports.values()) & {port for other in others for port in other.held_ports}
    if clashes:
        found.append(f"port {', '.join(map(str, sorted(clashes)))} is given out")
    return found
