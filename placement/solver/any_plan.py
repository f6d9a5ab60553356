"""Any plan at all, or the proof that there is none: what fits where, without a score, as an integer programme."""

import copy
import random
import time
from collections.abc import Mapping

import highspy  # type: ignore[import-untyped] # no stubs
import numpy as np

from placement.constraints import feasible
from placement.problem import Problem, Room
from placement.solver.column_selection import new_solver
from placement.solver.node_configurations import Items

MOST = 100_000  # cells and pairs: a larger programme would not even be written down in time
AT_A_TIME = 28  # instances that are packed anew to mend a plan
MENDING_S = 2.0  # seconds for one such packing


def pack(items: Items, until: float) -> tuple[dict[str, str] | None, bool]:
    """A plan, instance -> node; and whether the answer is proven.

    (None, True): there is no plan. (None, False): the time was over.
    """
    rooms = [kind for kind in items.kinds for _ in kind.rooms]
    apart = np.argwhere(np.tril(items.apart, -1)) if items.apart is not None else np.zeros((0, 2), dtype=np.int64)
    if len(rooms) * (items.number + len(apart)) > MOST:
        return None, False
    solver = new_solver(until)
    number = items.number
    index = np.arange(len(rooms) * number, dtype=np.int32).reshape(len(rooms), number)
    most = np.array([np.where(kind.may, np.minimum(items.sizes, kind.slots), 0) for kind in rooms], dtype=float)
    nothing = np.zeros(0, dtype=np.int32)
    solver.addCols(
        index.size, np.zeros(index.size), np.zeros(index.size), most.ravel(), 0,
        np.zeros(index.size, dtype=np.int32), nothing, np.zeros(0),
    )  # fmt: skip
    for item, size in enumerate(items.sizes):
        solver.addRow(float(size), float(size), len(rooms), index[:, item], np.ones(len(rooms)))
    for at, kind in enumerate(rooms):
        solver.addRow(0.0, float(kind.slots), number, index[at], np.ones(number))
        for needs, free in ((kind.ram, kind.free_ram), (kind.gpu_memory, kind.free_gpu_memory)):
            some = np.flatnonzero(kind.may & (needs > 0))
            if len(some):
                unit = int(np.gcd.reduce(needs[some]))  # small whole numbers: no tolerance can matter
                solver.addRow(0.0, float(free // unit), len(some), index[at, some], (needs[some] // unit).astype(float))
        for pair in apart:
            if kind.may[pair].all():
                solver.addRow(0.0, 1.0, 2, index[at, pair], np.ones(2))
    solver.changeColsIntegrality(index.size, index.ravel(), np.array([highspy.HighsVarType.kInteger] * index.size))
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kOptimal:
        often = np.rint(np.array(solver.getSolution().col_value)).astype(np.int64).reshape(index.shape)
        waiting = [list(requests) for requests in items.requests]
        nodes = [room.node.name for kind in items.kinds for room in kind.rooms]
        everything = np.arange(number)
        return {
            waiting[item].pop().instance.id: name
            for name, row in zip(nodes, often, strict=True)
            for item in np.repeat(everything, row)
        }, True
    return None, status == highspy.HighsModelStatus.kInfeasible


def mend(problem: Problem, assignments: Mapping[str, str], until: float, seed: int = 0) -> dict[str, str] | None:
    """A plan from what is nearly one: a few nodes at a time, one with what does not fit among them, are packed anew."""
    dice = random.Random(seed)  # noqa: S311 - drawn to be repeated, not to be secret
    assignments = dict(assignments)
    while time.monotonic() < until:
        rooms, broken = _filled(problem, assignments)
        if not broken:
            return assignments
        chosen = [dice.choice(broken)]
        count = len(rooms[chosen[0]].ids)
        # More room, more likely.
        for name in sorted(rooms, key=lambda name: -dice.random() * (1 + max(0, rooms[name].free_ram))):
            if name not in chosen and count + len(rooms[name].ids) <= AT_A_TIME:
                chosen.append(name)
                count += len(rooms[name].ids)
        part = copy.copy(problem)
        part.nodes = [node for node in problem.nodes if node.name in chosen]
        part.requests = [one for one in problem.requests if assignments[one.instance.id] in chosen]
        packed, _ = pack(Items(part), min(until, time.monotonic() + MENDING_S))
        assignments.update(packed or {})
    return None


def _filled(problem: Problem, assignments: Mapping[str, str]) -> tuple[dict[str, Room], list[str]]:
    """The nodes with what is assigned to them, and the names of those where something does not fit."""
    rooms = {room.node.name: room for room in problem.rooms()}
    broken: dict[str, None] = {}
    for request in problem.requests:
        room = rooms[assignments[request.instance.id]]
        if not feasible(room, request):
            broken[room.node.name] = None
        room.add(request)
    return rooms, list(broken)
