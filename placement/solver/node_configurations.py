"""Configurations: what one node can hold. A plan chooses one for every node: its score is separable by node.

In the fixed order every step's score depends only on what else is on the same node. So interchangeable nodes form one
`Kind`, interchangeable instances one item, and a configuration is an ascending row of items.

Scores are whole numbers here: points times `Items.scale`, in which the load of every node is whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import lcm
from typing import Any

import numpy as np
import numpy.typing as npt

from placement.constraints import status
from placement.problem import PORTS, Capacity, Problem, Request

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MOST_SCALE = 10**6  # where slot numbers would need a larger scale, load is rounded to a millionth of a point


def fit_points(asks: Any, free: Ints, least: Ints | None = None) -> Ints:
    """Compute scoring.ram_fit over arrays: 30 for 0.3 <= asks / free <= 0.7, 20 below, 10 above.

    least: if given, free RAM is only known to be between `least` and `free`; the result is the most points possible.
    """
    lowest = free if least is None else least
    points: Ints = np.where(10 * asks < 3 * lowest, 20, np.where(10 * asks <= 7 * free, 30, 10))
    return points


@dataclass(frozen=True)
class Kind:
    """Interchangeable nodes of a problem. Arrays are over the items."""

    capacities: list[Capacity]  # in natural order of names
    slots: int  # how many more instances a node takes, limited by slots and by ports
    free_ram: int
    free_gpu_memory: int
    may: Flags  # the item fits an empty node of this kind
    ram: Ints  # the RAM it takes here
    gpu_memory: Ints
    points: Ints  # scaled: GPU and preferred node, which do not depend on the other members
    gpu_points: Ints
    preferred: Ints
    load: Ints  # over the slots: scaled points of the next instance if so many of `slots` are used


class Items:
    """Instances in the fixed order, interchangeable ones as one item; and the kinds of nodes for them."""

    def __init__(self, problem: Problem) -> None:
        capacities = [capacity for capacity in problem.capacities() if not status(capacity, problem.requests[0])]
        self.requests = list(_alike_requests(problem.requests))
        first = [requests[0] for requests in self.requests]
        self.number = len(first)
        self.sizes = np.array([len(requests) for requests in self.requests], dtype=np.int64)
        self.ram = np.array([request.ram for request in first], dtype=np.int64)
        self.item_of = {request.instance.id: at for at, requests in enumerate(self.requests) for request in requests}
        self.related = self._matrix([request.related for request in first])
        self.apart = self._matrix([request.apart for request in first])
        slots = {capacity.node.max_instances for capacity in capacities}
        self.scale = lcm(*slots) if slots else 1
        self.scale = self.scale * -(-MOST_SCALE // self.scale) if self.scale <= MOST_SCALE else MOST_SCALE
        named = {request.pin for request in first} | {request.instance.preferred_node for request in first}
        self.kinds = [self._kind(group, first) for group in _alike_rooms(capacities, named)]
        self.kinds = [kind for kind in self.kinds if kind.slots > 0 and kind.may.any()]

    def _matrix(self, sets: Sequence[frozenset[str]]) -> Flags | None:
        """Return the relation between items; None if there is none at all."""
        if not any(sets):
            return None
        matrix = np.zeros((self.number, self.number), dtype=bool)
        for at, ids in enumerate(sets):
            matrix[at, [self.item_of[id] for id in ids if id in self.item_of]] = (
                True  # some may be outside this problem
            )
        return matrix

    def _kind(self, capacities: list[Capacity], first: Sequence[Request]) -> Kind:
        capacity, node = capacities[0], capacities[0].node
        needs = np.array([capacity.needs(request) for request in first], dtype=np.int64).reshape(-1, 2)
        free_gpu_memory = max(0, capacity.free_gpu_memory)  # an overcommitted node takes instances that need none
        may = (needs[:, 0] <= capacity.free_ram) & (needs[:, 1] <= free_gpu_memory)
        may &= np.array([request.pin in (None, node.name) for request in first])
        may &= np.array([request.node_type in (None, node.node_type) for request in first])
        if not node.gpu:
            may &= np.array([request.instance.gpu != "required" for request in first])
        wants = np.array([request.instance.gpu != "none" for request in first])
        gpu_points = np.where(wants, 15, 0) if node.gpu else np.where(wants, 0, 5)
        preferred = np.array([10 if request.instance.preferred_node == node.name else 0 for request in first])
        most = node.max_instances
        slots = min(most - capacity.taken_slots, len(capacity.free_ports()) // len(PORTS), int(self.sizes.sum()))
        load = [
            20 * (most - taken) * self.scale // most
            for taken in range(capacity.taken_slots, capacity.taken_slots + slots)
        ]
        return Kind(
            capacities,
            slots,
            capacity.free_ram,
            free_gpu_memory,
            may,
            needs[:, 0],
            needs[:, 1],
            (gpu_points + preferred) * self.scale,
            gpu_points,
            preferred,
            np.array(load, dtype=np.int64),
        )


def _alike_requests(requests: Sequence[Request]) -> Iterator[list[Request]]:
    """Yield groups of interchangeable requests: equal in all that affects a score or a constraint, without relations.

    Among instances of the same demand and sizes the order on a node does not change its score, so they need not be
    adjacent in the fixed order.
    """

    def block(request: Request) -> tuple[Any, ...]:
        instance = request.instance
        return instance.gpu, request.ram, request.gpu_memory if instance.gpu != "none" else 0

    for _, run in groupby(requests, key=block):
        groups: dict[Any, list[Request]] = {}
        for request in run:
            alone = not (request.related or request.apart)
            key = (request.pin, request.node_type, request.instance.preferred_node) if alone else request.instance.id
            groups.setdefault((alone, key), []).append(request)
        yield from groups.values()


def _alike_rooms(capacities: Sequence[Capacity], named: set[str | None]) -> list[list[Capacity]]:
    """Group interchangeable capacities: equal sizes, slots, type, and whether a request names the node."""
    groups: dict[Any, list[Capacity]] = {}
    for capacity in capacities:
        node = capacity.node
        key = (
            capacity.free_ram,
            capacity.free_gpu_memory if node.gpu else 0,
            node.gpu,
            node.unified,
            node.max_instances,
            capacity.taken_slots,
            min(len(capacity.free_ports()) // len(PORTS), node.max_instances),
            node.node_type,
            node.name if node.name in named else None,
        )
        groups.setdefault(key, []).append(capacity)
    return list(groups.values())


@dataclass
class Columns:
    """Configurations, one per row, with kind, items, and values for the score and for the tie rules."""

    kind: Ints
    members: Ints  # rows x most slots: items in ascending order, padded with the number of items
    score: Ints  # scaled points
    preferred: Ints
    gpu: Ints
    free: Ints  # sum of the RAM free before each step

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: Any) -> "Columns":
        return Columns(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @classmethod
    def joined(cls, parts: Sequence["Columns"]) -> "Columns":
        """Concatenate all parts; their members must already be padded to the same width."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))
