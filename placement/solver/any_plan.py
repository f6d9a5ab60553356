"""Find any plan or prove that there is none: an integer program of what fits where, without scores."""

import copy
import random
import time
from collections.abc import Mapping

import highspy  # type: ignore[import-untyped] # no stubs
import numpy as np

from placement.constraints import feasible
from placement.problem import Capacity, Problem
from placement.solver.column_selection import new_solver
from placement.solver.node_configurations import Items

MOST = 100_000  # cells and pairs: building a larger program would take too long
AT_A_TIME = 28  # instances that are packed again to repair a plan
MENDING_S = 2.0  # seconds for one such packing


def pack(items: Items, until: float) -> tuple[dict[str, str] | None, bool]:
    """Return a plan as {instance: node}, and whether the answer is proven.

    (None, True): there is no plan. (None, False): the time ran out.
    """
    capacities = [kind for kind in items.kinds for _ in kind.capacities]
    apart = np.argwhere(np.tril(items.apart, -1)) if items.apart is not None else np.zeros((0, 2), dtype=np.int64)
    if len(capacities) * (items.number + len(apart)) > MOST:
        return None, False
    solver = new_solver(until)
    number = items.number
    index = np.arange(len(capacities) * number, dtype=np.int32).reshape(len(capacities), number)
    most = np.array([np.where(kind.may, np.minimum(items.sizes, kind.slots), 0) for kind in capacities], dtype=float)
    nothing = np.zeros(0, dtype=np.int32)
    solver.addCols(
        index.size, np.zeros(index.size), np.zeros(index.size), most.ravel(), 0,
        np.zeros(index.size, dtype=np.int32), nothing, np.zeros(0),
    )  # fmt: skip
    for item, size in enumerate(items.sizes):
        solver.addRow(float(size), float(size), len(capacities), index[:, item], np.ones(len(capacities)))
    for at, kind in enumerate(capacities):
        solver.addRow(0.0, float(kind.slots), number, index[at], np.ones(number))
        for needs, free in ((kind.ram, kind.free_ram), (kind.gpu_memory, kind.free_gpu_memory)):
            some = np.flatnonzero(kind.may & (needs > 0))
            if len(some):
                unit = int(np.gcd.reduce(needs[some]))  # small whole numbers, so that no solver tolerance matters
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
        nodes = [capacity.node.name for kind in items.kinds for capacity in kind.capacities]
        everything = np.arange(number)
        return {
            waiting[item].pop().instance.id: name
            for name, row in zip(nodes, often, strict=True)
            for item in np.repeat(everything, row)
        }, True
    return None, status == highspy.HighsModelStatus.kInfeasible


def mend(problem: Problem, assignments: Mapping[str, str], until: float, seed: int = 0) -> dict[str, str] | None:
    """Repair an infeasible assignment: pack a few nodes again at a time, including one with a violation."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not for security
    assignments = dict(assignments)
    while time.monotonic() < until:
        capacities, broken = _filled(problem, assignments)
        if not broken:
            return assignments
        chosen = [rng.choice(broken)]
        count = len(capacities[chosen[0]].ids)
        # Nodes with more free RAM are more likely.
        for name in sorted(capacities, key=lambda name: -rng.random() * (1 + max(0, capacities[name].free_ram))):
            if name not in chosen and count + len(capacities[name].ids) <= AT_A_TIME:
                chosen.append(name)
                count += len(capacities[name].ids)
        part = copy.copy(problem)
        part.nodes = [node for node in problem.nodes if node.name in chosen]
        part.requests = [one for one in problem.requests if assignments[one.instance.id] in chosen]
        packed, _ = pack(Items(part), min(until, time.monotonic() + MENDING_S))
        assignments.update(packed or {})
    return None


def _filled(problem: Problem, assignments: Mapping[str, str]) -> tuple[dict[str, Capacity], list[str]]:
    """Return the nodes with what is assigned to them, and the names of those where something does not fit."""
    capacities = {capacity.node.name: capacity for capacity in problem.capacities()}
    broken: dict[str, None] = {}
    for request in problem.requests:
        capacity = capacities[assignments[request.instance.id]]
        if not feasible(capacity, request):
            broken[capacity.node.name] = None
        capacity.add(request)
    return capacities, list(broken)
