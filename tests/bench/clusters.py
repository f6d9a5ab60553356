"""Random mixed clusters whose instances fit by construction: each was drawn into the room that some node still had."""

from __future__ import annotations

import random
from dataclasses import replace

from placement import Instance, Node

# (node_type, RAM, reserved, GPU memory; None: no GPU), in GB
TYPES = (
    ("jetson_orin", 64, 8, 64),
    ("raspberry_pi", 8, 1, None),
    ("raspberry_pi", 8, 1, None),
    ("host", 32, 4, None),
    ("generic", 48, 2, 24),
)


def feasible(seed: int, nodes: int, instances: int, slack: bool = True) -> tuple[list[Node], list[Instance]]:
    """A cluster and instances that a plan exists for.

    slack: about a third more slots than instances, and instances that leave some of each node's RAM; without it the
    slots are as many as the instances and the sizes use up what there is. A third of the instances have a GPU demand,
    a tenth prefer a node, one in four has an affinity and one in four an anti-affinity, to instances near it in the
    file.
    """
    dice = random.Random(seed)  # noqa: S311 - drawn to be repeated, not to be secret
    slots = _slots(dice, nodes, instances * 4 // 3 if slack else instances)
    cluster = [_node(dice, number, slots[number]) for number in range(nodes)]
    homes = [number for number, count in enumerate(slots) for _ in range(count)]
    dice.shuffle(homes)
    homes = homes[:instances]
    free = [node.ram_gb - node.reserved_ram_gb for node in cluster]
    free_gpu = [node.gpu_memory_gb for node in cluster]
    left = _counts(homes, nodes)
    placed: list[Instance] = []
    for number, home in enumerate(homes):
        node = cluster[home]
        most = free[home] / left[home] * (0.9 if slack else 1.0)
        ram = max(0.1, round(most * dice.uniform(0.4, 1.0 if slack else 1.2) if left[home] > 1 or slack else most, 1))
        ram = min(ram, int(10 * (free[home] - 0.1 * (left[home] - 1)) + 1e-6) / 10)
        gpu = (
            dice.choice(("required", "preferred", "none")) if node.gpu else dice.choice(("none",) * 4 + ("preferred",))
        )
        memory = 0.0
        if gpu != "none" and node.gpu:
            memory = min(ram, int(10 * free_gpu[home] / left[home]) / 10)
            free_gpu[home] -= memory
        free[home] -= ram
        left[home] -= 1
        near = [dice.randrange(max(0, number - 20), number) for _ in range(2)] if number else []
        relation = dice.random()
        placed.append(
            Instance(
                id=f"i{number}",
                ram_gb=ram,
                gpu=gpu,
                gpu_memory_gb=memory,
                preferred_node=dice.choice(cluster).name if dice.random() < 0.1 else None,
                affinity=sorted({f"i{other}" for other in near}) if relation < 0.25 else (),
                anti_affinity=(
                    sorted({f"i{other}" for other in near if homes[other] != home}) if 0.25 <= relation < 0.5 else ()
                ),
            )
        )
    dice.shuffle(cluster)
    return cluster, placed


def of_few_kinds(seed: int, nodes: int, instances: int) -> tuple[list[Node], list[Instance]]:
    """A cluster as laboratories have them: nodes of four types, instances of twelve sizes, some with an affinity.

    Instances are small enough that a plan exists.
    """
    dice = random.Random(seed)  # noqa: S311 - as above
    slots = {"jetson_orin": 8, "raspberry_pi": 3, "host": 8, "generic": 10}
    cluster = [_node(dice, number, 1) for number in range(nodes)]
    cluster = [replace(node, max_instances=slots[node.node_type]) for node in cluster]
    sizes = [
        (dice.choice((1.0, 1.5, 2.0, 3.0, 4.0)), dice.choice(("none", "none", "preferred", "required")))
        for _ in range(12)
    ]
    placed = []
    for number in range(instances):
        ram, gpu = dice.choice(sizes)
        close = [f"i{dice.randrange(number)}"] if number and dice.random() < 0.05 else []
        memory = ram if gpu != "none" else 0.0
        placed.append(Instance(id=f"i{number}", ram_gb=ram, gpu=gpu, gpu_memory_gb=memory, affinity=close))
    dice.shuffle(cluster)
    return cluster, placed


def _slots(dice: random.Random, nodes: int, total: int) -> list[int]:
    """Slots a node, together `total`: about one to four where there are few, more where there are many."""
    least = max(1, total // nodes // 2)
    slots = [least] * nodes
    most = max(4, 2 * total // nodes)
    open_nodes = list(range(nodes))
    for _ in range(max(0, total - least * nodes)):
        position = dice.randrange(len(open_nodes))
        number = open_nodes[position]
        slots[number] += 1
        if slots[number] >= most and len(open_nodes) > 1:
            open_nodes[position] = open_nodes[-1]
            open_nodes.pop()
    return slots


def _node(dice: random.Random, number: int, slots: int) -> Node:
    kind, ram, reserved, gpu_memory = dice.choice(TYPES)
    grown = 1 + slots // 8  # more slots than a lab's machine has want more memory too
    return Node(
        name=f"n{number}",
        node_type=kind,
        ram_gb=ram * grown,
        reserved_ram_gb=reserved,
        gpu=gpu_memory is not None,
        gpu_memory_gb=(gpu_memory or 0) * grown,
        max_instances=slots,
    )


def _counts(homes: list[int], nodes: int) -> list[int]:
    counts = [0] * nodes
    for home in homes:
        counts[home] += 1
    return counts
