"""Configurations: what one node can hold of a problem. A plan chooses one for every node: its score is separable.

Within the fixed order every step's score depends on nothing but what else lies on the same node. So nodes that are
alike form one `Kind`, instances that are alike one item, and a configuration is an ascending row of items.

Scores are whole numbers here: points times `Items.scale`, in which the load of every node is whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import gcd, lcm
from typing import Any

import numpy as np
import numpy.typing as npt

from placement.constraints import status
from placement.problem import PORTS, Problem, Request, Room

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MOST_SCALE = 10**6  # the load of odd numbers of slots together is rounded to a millionth of a point, not more
MOST_LEVELS = 1024  # of free RAM in a table of bounds
CHUNK = 2**21  # cells of a matrix of rows x items at once: some tens of MB


class TooMany(Exception):
    """More configurations than the caller wants to hold."""


@dataclass(frozen=True)
class Kind:
    """Nodes that nothing of this problem tells apart. Arrays are over the items."""

    rooms: list[Room]  # in natural order of names
    slots: int  # how many more instances a node takes: by slots and by ports
    free_ram: int
    free_gpu_memory: int
    may: Flags  # the item fits an empty node of this kind
    ram: Ints  # what it takes here
    gpu_memory: Ints
    points: Ints  # scaled: GPU and preferred node, which do not depend on what else is here
    gpu_points: Ints
    preferred: Ints
    load: Ints  # over the slots: scaled points of the next instance when so many of `slots` are used

    @property
    def node_type(self) -> str:
        """That of all its nodes."""
        return self.rooms[0].node.node_type


class Items:
    """Instances in the fixed order, those that nothing tells apart as one item; and the kinds of nodes for them."""

    def __init__(self, problem: Problem) -> None:
        rooms = [room for room in problem.rooms() if not status(room, problem.requests[0])]
        self.requests = list(_alike_requests(problem.requests))
        first = [requests[0] for requests in self.requests]
        self.number = len(first)
        self.sizes = np.array([len(requests) for requests in self.requests], dtype=np.int64)
        self.ram = np.array([request.ram for request in first], dtype=np.int64)
        index = {request.instance.id: at for at, requests in enumerate(self.requests) for request in requests}
        self.related = self._matrix([request.related for request in first], index)
        self.apart = self._matrix([request.apart for request in first], index)
        self.alike = np.array([bool(request.alike) for request in first])
        # Related ones that can have come before, at best.
        earlier = np.tril(self.related, -1).sum(axis=1) if self.related is not None else np.zeros(self.number, int)
        slots = {room.node.max_instances for room in rooms}
        self.scale = lcm(*slots) if slots else 1
        self.scale = self.scale * -(-MOST_SCALE // self.scale) if self.scale <= MOST_SCALE else MOST_SCALE
        self.most_affinity = np.minimum(25, 10 * earlier) * self.scale
        named = {request.pin for request in first} | {request.instance.preferred_node for request in first}
        self.kinds = [self._kind(group, first) for group in _alike_rooms(rooms, named)]
        self.kinds = [kind for kind in self.kinds if kind.slots > 0 and kind.may.any()]

    def _matrix(self, sets: Sequence[frozenset[str]], index: Mapping[str, int]) -> Flags | None:
        """The relation between items; None when there is none at all."""
        if not any(sets):
            return None
        matrix = np.zeros((self.number, self.number), dtype=bool)
        for at, ids in enumerate(sets):
            matrix[at, [index[id] for id in ids]] = True
        return matrix

    def _kind(self, rooms: list[Room], first: Sequence[Request]) -> Kind:
        room, node = rooms[0], rooms[0].node
        needs = np.array([room.needs(request) for request in first], dtype=np.int64).reshape(-1, 2)
        may = (needs[:, 0] <= room.free_ram) & (needs[:, 1] <= room.free_gpu_memory)
        may &= np.array([request.pin in (None, node.name) for request in first])
        may &= np.array([request.node_type in (None, node.node_type) for request in first])
        if not node.gpu:
            may &= np.array([request.instance.gpu != "required" for request in first])
        wants = np.array([request.instance.gpu != "none" for request in first])
        gpu_points = np.where(wants, 15, 0) if node.gpu else np.where(wants, 0, 5)
        preferred = np.array([10 if request.instance.preferred_node == node.name else 0 for request in first])
        most = node.max_instances
        slots = min(most - room.taken_slots, len(room.free_ports()) // len(PORTS))
        load = [20 * (most - taken) * self.scale // most for taken in range(room.taken_slots, room.taken_slots + slots)]
        return Kind(
            rooms,
            min(slots, int(self.sizes.sum())),
            room.free_ram,
            room.free_gpu_memory,
            may,
            needs[:, 0],
            needs[:, 1],
            (gpu_points + preferred) * self.scale,
            gpu_points,
            preferred,
            np.array(load, dtype=np.int64),
        )


def _alike_requests(requests: Sequence[Request]) -> Iterator[list[Request]]:
    """Those that may change places without any node noticing: alike in all that counts, with no relations.

    Between instances of the same demand and sizes the order on a node does not change its score, so they need not be
    next to each other in the fixed order.
    """

    def block(request: Request) -> tuple[Any, ...]:
        instance = request.instance
        return instance.gpu, request.ram, request.gpu_memory if instance.gpu != "none" else 0

    for _, run in groupby(requests, key=block):
        groups: dict[Any, list[Request]] = {}
        for request in run:
            alone = not (request.related or request.apart or request.alike)
            key = (request.pin, request.node_type, request.instance.preferred_node) if alone else request.instance.id
            groups.setdefault((alone, key), []).append(request)
        yield from groups.values()


def _alike_rooms(rooms: Sequence[Room], named: set[str | None]) -> list[list[Room]]:
    """Rooms in groups that nothing tells apart: sizes, slots, type, and whether anybody names one."""
    groups: dict[Any, list[Room]] = {}
    for room in rooms:
        node = room.node
        key = (
            room.free_ram,
            room.free_gpu_memory if node.gpu else 0,
            node.gpu,
            node.unified,
            node.max_instances,
            room.taken_slots,
            min(len(room.free_ports()) // len(PORTS), node.max_instances),
            node.node_type,
            node.name if node.name in named else None,
        )
        groups.setdefault(key, []).append(room)
    return list(groups.values())


@dataclass
class Columns:
    """Configurations, one a row. Each knows its kind, its items, and what it is worth by score and by the tie rules."""

    kind: Ints
    members: Ints  # rows x most slots: items in ascending order, padded with the number of items
    score: Ints  # scaled points
    preferred: Ints
    gpu: Ints
    free: Ints  # RAM free before each step, added up

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: Any) -> "Columns":
        return Columns(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @classmethod
    def joined(cls, parts: Sequence["Columns"]) -> "Columns":
        """All parts, one after the other; their members padded to the same width by whoever made them."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


@dataclass
class _Rows:
    """Configurations of one kind and one length, while they grow."""

    members: Ints
    last_count: Ints  # how often the last item is in it
    free: Ints
    free_gpu_memory: Ints
    score: Ints
    value: Ints  # score less the prices of the items
    preferred: Ints
    gpu: Ints
    free_sum: Ints

    def __getitem__(self, rows: Any) -> "_Rows":
        return _Rows(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @classmethod
    def joined(cls, parts: Sequence["_Rows"]) -> "_Rows":
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


def enumerate_kind(
    items: Items,
    at: int,
    width: int,
    most: int,
    prices: Ints | None = None,
    worth: int = 0,
    beam: int | None = None,
) -> tuple[Columns, int]:
    """Every configuration of kind `at`; with prices, every one whose score less its items' prices is at least `worth`.

    Rows grow by one item at a time, all of a length at once. A row is dropped when even the best completion (see
    `_Completions`) does not reach `worth`. width: of `members`. Raises TooMany beyond `most` rows. beam: keep only so
    many rows of a length, those that promise most. Also returns at most how much a row that the beam dropped is worth.
    """
    dropped = 0
    kind = items.kinds[at]
    may = np.flatnonzero(kind.may)
    charge = np.zeros(len(may), dtype=np.int64) if prices is None else prices[may]
    completions = None if prices is None else _Completions(items, kind, may, charge)
    related = items.related[np.ix_(may, may)] if items.related is not None else None
    apart = items.apart[np.ix_(may, may)] if items.apart is not None else None
    nothing = np.zeros(1, dtype=np.int64)
    rows = _Rows(
        np.zeros((1, 0), dtype=np.int64), nothing, nothing + kind.free_ram, nothing + kind.free_gpu_memory,
        nothing, nothing, nothing, nothing, nothing,
    )  # fmt: skip
    found: list[Columns] = []
    total = 0
    for used in range(kind.slots):
        parts = []
        step = max(1, CHUNK // max(1, len(may)))
        for start in range(0, len(rows.free), step):
            part = _grown(items, kind, may, charge, related, apart, rows[start : start + step], used)
            if completions is not None:
                promise = part.value + completions(part, used + 1)
                part, promise = part[promise >= worth], promise[promise >= worth]
                if beam is not None and len(promise) > beam:
                    order = np.argsort(-promise, kind="stable")
                    dropped = max(dropped, int(promise[order[beam]]))
                    part = part[order[:beam]]
            total += len(part.free)
            if total > most:
                raise TooMany
            parts.append(part)
        rows = _Rows.joined(parts)
        good = rows if prices is None else rows[rows.value >= worth]
        members = np.full((len(good.free), width), items.number, dtype=np.int64)
        members[:, : used + 1] = may[good.members]
        kinds = np.full(len(good.free), at, dtype=np.int64)
        found.append(Columns(kinds, members, good.score, good.preferred, good.gpu, good.free_sum))
        if not len(rows.free):
            break
    return Columns.joined(found), dropped


def _grown(
    items: Items,
    kind: Kind,
    may: Ints,
    charge: Ints,
    related: Flags | None,
    apart: Flags | None,
    rows: _Rows,
    used: int,
) -> _Rows:
    """Each row with each item that may follow: later in the fixed order, or one more of the same; and that fits."""
    local = np.arange(len(may))
    fits = (kind.ram[may] <= rows.free[:, None]) & (kind.gpu_memory[may] <= rows.free_gpu_memory[:, None])
    if used:
        last = rows.members[:, -1:]
        again = (local == last) & (rows.last_count[:, None] < items.sizes[may])
        fits &= (local > last) | again
        if apart is not None:
            fits &= ~apart[rows.members].any(axis=1)
    row, item = np.nonzero(fits)
    free, ram = rows.free[row], items.ram[may[item]]
    fit = np.where(10 * ram < 3 * free, 20, np.where(10 * ram <= 7 * free, 30, 10))
    points = fit * items.scale + kind.load[used] + kind.points[may[item]]
    if related is not None and used:
        here = related[rows.members[row], item[:, None]].sum(axis=1)
        points += np.minimum(25, 10 * here) * items.scale
    same = rows.members[row, -1] == item if used else np.zeros(len(row), dtype=bool)
    return _Rows(
        np.concatenate([rows.members[row], item[:, None]], axis=1),
        np.where(same, rows.last_count[row] + 1, 1),
        free - kind.ram[may[item]],
        rows.free_gpu_memory[row] - kind.gpu_memory[may[item]],
        rows.score[row] + points,
        rows.value[row] + points - charge[item],
        rows.preferred[row] + kind.preferred[may[item]],
        rows.gpu[row] + kind.gpu_points[may[item]],
        rows.free_sum[row] + free,
    )


class _Completions:
    """At most how much value the items after a row's last can add to it: a dynamic programme backwards along the order.

    table[item, used, level]: the best of items from this one on, when so many slots are used and RAM up to this level
    is free. Affinity counts at its best and GPU memory not at all; where all sizes are multiples of the level the rest
    is exact.
    """

    def __init__(self, items: Items, kind: Kind, may: Ints, charge: Ints) -> None:
        ram = kind.ram[may]
        unit = gcd(kind.free_ram, *(int(amount) for amount in ram)) or 1  # 0: conflicts are looked for without RAM
        exact = kind.free_ram // unit <= MOST_LEVELS
        self.unit = unit if exact else -(-kind.free_ram // MOST_LEVELS)
        levels = np.arange(-(-kind.free_ram // self.unit) + 1)
        free = levels * self.unit
        self.table = np.zeros((len(may) + 1, kind.slots + 1, len(levels)), dtype=np.int64)
        self.next = np.array([at if items.sizes[item] > 1 else at + 1 for at, item in enumerate(may)], dtype=np.int64)
        for at in reversed(range(len(may))):
            item = may[at]
            demand = int(items.ram[item])
            if exact:
                fit = np.where(10 * demand < 3 * free, 20, np.where(10 * demand <= 7 * free, 30, 10))
            else:  # RAM may be less than its level says, which can bring the better fit
                fit = np.where(10 * demand <= 7 * free, 30, 10)
            points = fit * items.scale + int(kind.points[item] + items.most_affinity[item] - charge[at])
            needs = int(ram[at])
            takes = needs // self.unit
            here, below = self.table[at], self.table[at + 1]
            here[:] = below
            for used in reversed(range(kind.slots)):
                after = (here if items.sizes[item] > 1 else below)[used + 1]
                gain = points[takes:] + kind.load[used] + after[: len(levels) - takes]
                np.maximum(here[used, takes:], np.where(free[takes:] >= needs, gain, 0), out=here[used, takes:])

    def __call__(self, rows: _Rows, used: int) -> Ints:
        """Of each row, with so many slots used."""
        level = -(-rows.free // self.unit)
        best: Ints = self.table[self.next[rows.members[:, -1]], used, level]
        return best

    def best(self) -> int:
        """At most how much any configuration of this kind is worth."""
        return int(self.table[0, 0, -1])


def best_worth(items: Items, at: int, prices: Ints) -> int:
    """An upper bound of score less prices over all configurations of kind `at`, the empty one (0) included."""
    kind = items.kinds[at]
    may = np.flatnonzero(kind.may)
    return _Completions(items, kind, may, prices[may]).best()
