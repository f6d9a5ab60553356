"""The last tie rule: of plans equal in all else, the one whose instances have the first nodes by name."""

import copy
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from placement.model import natural
from placement.problem import Problem
from placement.solver.column_selection import Floats, choose
from placement.solver.node_configurations import Columns, Ints, Items

MOST = 4_000  # columns times nodes that may have them: beyond, only nodes of one kind are ordered by name

Held = list[tuple[Floats, float]]


def named(problem: Problem, items: Items, rows: Columns) -> dict[str, str]:
    """Return {instance: node} for chosen columns: in the fixed order each gets the first possible node by name."""
    free = [list(kind.capacities) for kind in items.kinds]
    waiting = sorted(
        (int(kind), [int(item) for item in members if item < items.number])
        for kind, members in zip(rows.kind, rows.members, strict=True)
    )
    held: dict[str, list[int]] = {}  # node -> the items of its column that are not yet assigned
    assignments = {}
    for request in problem.requests:
        item = items.item_of[request.instance.id]
        options = [(natural(name), name, -1) for name, left in held.items() if item in left]
        for at, (kind, members) in enumerate(waiting):
            if item in members:
                name = free[kind][0].node.name
                options.append((natural(name), name, at))
        _, name, at = min(options)
        if at >= 0:
            kind, held[name] = waiting.pop(at)
            free[kind].pop(0)
        held[name].remove(item)
        assignments[request.instance.id] = name
    return assignments


def first_by_name(
    problem: Problem, items: Items, near: Columns, rows: Ints, held: Held, until: float
) -> Mapping[str, str]:
    """Return the first plan by name among all choices in `near` that keep what is held; `rows` is one of them.

    Instance by instance in the fixed order: is there still such a plan with it on the first node, the second, ...?
    If the time runs out, return the first that is known.
    """
    known = named(problem, items, near[rows])
    others = np.isin(np.arange(len(near)), rows, invert=True).astype(float)
    if not others.any() or choose(items, near, others, until, rows, held).value < 0.5:
        return known  # there is no other
    capacities = sorted(
        ((capacity, kind) for kind in items.kinds for capacity in kind.capacities),
        key=lambda at: natural(at[0].node.name),
    )
    place = {capacity.node.name: at for at, (capacity, _) in enumerate(capacities)}
    apiece = [
        (row, place[capacity.node.name])
        for row, kind in enumerate(near.kind)
        for capacity in items.kinds[kind].capacities
    ]
    if len(apiece) > MOST:
        return known
    row, capacity = np.array(apiece).T
    single = copy.copy(items)
    single.kinds = [replace(kind, capacities=[capacity]) for capacity, kind in capacities]
    columns = replace(near[row], kind=capacity)
    count = (columns.members[:, :, None] == np.arange(items.number)).sum(axis=1)
    kept = [(objective[row], value) for objective, value in held]
    search = _Names(single, columns, count, kept, until)
    search.follow([items.item_of[request.instance.id] for request in problem.requests])
    return known if search.rows is None else named(problem, single, columns[search.rows])


class _Names:
    """Fixes one instance after another to the first node by name. Nodes by position in the order of names."""

    def __init__(self, items: Items, columns: Columns, count: Ints, held: Held, until: float) -> None:
        self.items, self.columns, self.count, self.held, self.until = items, columns, count, held, until
        self.allowed = np.ones(len(columns), dtype=bool)
        self.must: dict[int, Floats] = {}  # node -> its columns, one of which must be chosen
        self.rows: Ints | None = None

    def follow(self, order: list[int]) -> None:
        """Fix the items in this order, one instance at a time."""
        fixed = np.zeros((len(self.items.kinds), self.items.number), dtype=np.int64)
        for item in order:
            for node in range(len(self.items.kinds)):
                wanted = int(fixed[node, item]) + 1
                if time.monotonic() > self.until:
                    return
                if self._can(node, item, wanted):
                    fixed[node, item] = wanted
                    break

    def _can(self, node: int, item: int, wanted: int) -> bool:
        """Whether a plan has the item at least `wanted` times on the node; from now on require it, or exclude it."""
        here = self.columns.kind == node
        enough = self.allowed & here & (self.count[:, item] >= wanted)
        if not enough.any():
            return False
        if self.rows is None or not enough[self.rows].any():
            must = {**self.must, node: enough.astype(float)}
            some = np.flatnonzero(self.allowed & ~(here & ~enough))
            held = [*self.held, *((columns, 1.0) for columns in must.values())]
            chosen = choose(
                self.items,
                self.columns[some],
                np.zeros(len(some)),
                self.until,
                np.zeros(0, dtype=np.int64),
                [(objective[some], value) for objective, value in held],
            )
            if chosen.rows is None:
                self.allowed &= ~enough
                return False
            self.rows = some[chosen.rows]
        self.must[node] = enough.astype(float)
        self.allowed &= ~(here & ~enough)
        return True
