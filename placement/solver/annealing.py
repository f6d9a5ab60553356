"""A good plan where a proof is out of reach: simulated annealing over moves and swaps of instances.

Each step considers one instance. Among all nodes it may move to, some instances it may swap with, and staying in place,
one option is drawn by the Boltzmann distribution at the current temperature ("heat bath"). All options are valued at
once, node by node: a plan's score is separable by node. What does not fit costs PENALTY instead of being forbidden, so
that the search may start from and pass through infeasible assignments.
"""

import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from placement.solver.node_configurations import Ints, Items, fit_points

Floats = npt.NDArray[np.float64]

PENALTY = 300.0  # points: for RAM overbooked by 100 %, a pair that must be apart, a forbidden node
HOT, COLD = 5.0, 0.4  # points: the temperature at the start and at the end
SWAPS = 128  # swap partners considered in one step


class Annealing:
    """A search over assignments: `where[instance]` is a node; both are indices, instances in the order of `items`."""

    def __init__(self, items: Items, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.names = [capacity.node.name for kind in items.kinds for capacity in kind.capacities]
        self.ids = [request.instance.id for requests in items.requests for request in requests]
        nodes = [kind for kind in items.kinds for _ in kind.capacities]
        each = np.repeat(np.arange(items.number), items.sizes)
        self.number, self.merit = len(each), 1.0  # merit: the weight of a point of score
        may = np.array([kind.may[each] for kind in nodes])
        self.slots = np.array([kind.slots for kind in nodes])
        self.free = np.array([kind.free_ram for kind in nodes])
        self.free_gpu_memory = np.array([kind.free_gpu_memory for kind in nodes])
        # One more column, of zeros: the padding of a node's members.
        self.asks = np.append(items.ram[each], 0)
        self.ram = _padded([kind.ram[each] for kind in nodes])
        self.gpu_memory = _padded([kind.gpu_memory[each] for kind in nodes])
        points = np.array([kind.points[each] for kind in nodes]) / items.scale
        self.points, self.barred = _padded(np.where(may, points, 0)), _padded(~may)
        self.load = np.zeros((len(nodes), int(self.slots.max())))
        for at, kind in enumerate(nodes):
            self.load[at, : kind.slots] = kind.load / items.scale
        nobody = np.zeros((self.number, self.number), dtype=bool)
        pair = nobody if items.related is None else items.related[np.ix_(each, each)]
        apart = nobody if items.apart is None else items.apart[np.ix_(each, each)]
        self.pairs = 10.0 * pair - PENALTY * apart  # points for each pair of instances on the same node

    def places(self, assignments: Mapping[str, str]) -> Ints:
        """Convert a plan to a start assignment."""
        index = {name: at for at, name in enumerate(self.names)}
        return np.array([index[assignments[id]] for id in self.ids], dtype=np.int64)

    def assignments(self, where: Ints) -> dict[str, str]:
        """Convert an assignment to {instance: node} by name."""
        return {id: self.names[node] for id, node in zip(self.ids, where, strict=True)}

    def anywhere(self) -> Ints:
        """Return an infeasible start assignment: each instance takes a free slot, on an allowed node if possible."""
        where, free = np.zeros(self.number, dtype=np.int64), self.slots.copy()
        for instance in range(self.number):
            where[instance] = np.argmax(np.where(free > 0, free - 1000.0 * self.barred[:, instance], -np.inf))
            free[where[instance]] -= 1
        return where

    def improve(self, where: Ints, until: float, any_plan: bool = False) -> Ints | None:
        """Return the best plan found by the time `until`; None if none was found.

        where: the start assignment, with no more instances on a node than it has slots. any_plan: stop at the first
        plan; if there is none, `least` is the assignment closest to one.
        """
        self.merit, hot = (0.0, HOT / 5) if any_plan else (1.0, HOT)
        where = where.copy()
        members = np.full(self.load.shape, self.number)
        for node in range(len(members)):
            here = np.flatnonzero(where == node)
            members[node, : len(here)] = here
        values, unfit = self._values(np.arange(len(members)), members)
        near = np.array([self.pairs[where == node].sum(axis=0) for node in range(len(members))])
        related = float(near[where, np.arange(self.number)].sum()) / 2
        best, best_value, least, self.least = None, -np.inf, -np.inf, where
        began, order, at = time.monotonic(), self.rng.permutation(self.number), 0
        while (now := time.monotonic()) < until:
            temperature = hot * (COLD / hot) ** ((now - began) / (until - began))
            instance = int(order[at % self.number])
            at += 1
            found = self._draw(instance, where, members, values, near, temperature)
            if found is not None:
                gain, changed, rows = found
                related += gain
                for node, row in zip(changed, rows, strict=True):
                    left, came = np.setdiff1d(members[node], row), np.setdiff1d(row, members[node])
                    left, came = left[left < self.number], came[came < self.number]
                    near[node] += self.pairs[came].sum(axis=0) - self.pairs[left].sum(axis=0)
                    where[came] = node
                    members[node] = row
                values[changed], unfit[changed] = self._values(changed, rows)
            value = values.sum() + related
            if any_plan and value > least:
                least, self.least = value, where.copy()
            if value > best_value and not unfit.any() and not self._clashes(where, near):
                best, best_value = where.copy(), value
                if any_plan:
                    break
        return best

    def _clashes(self, where: Ints, near: Floats) -> bool:
        """Whether instances that must be apart are on one node."""
        return bool((near[where, np.arange(self.number)] < -PENALTY / 2).any())

    def _draw(
        self, instance: int, where: Ints, members: Ints, values: Floats, near: Floats, temperature: float
    ) -> tuple[float, Ints, Ints] | None:
        """Draw the instance's step: (gain in relations, two nodes, their new members), or None to leave it in place."""
        here = int(where[instance])
        used = (members < self.number).sum(axis=1)
        targets = np.flatnonzero((used < self.slots) & (np.arange(len(used)) != here))
        partners = self.rng.permutation(self.number)[:SWAPS]
        partners = partners[where[partners] != here]
        mine = members[here]
        without = np.where(mine == instance, self.number, mine)[None, :]
        moved = np.concatenate([members[targets][:, :-1], np.full((len(targets), 1), instance)], axis=1)
        # A full row has no room to append to, but only nodes with a free slot are targets.
        theirs = members[where[partners]]
        swapped_here = np.where(mine == instance, partners[:, None], mine)
        swapped_there = np.where(theirs == partners[:, None], instance, theirs)
        rows = np.sort(np.concatenate([without, swapped_here, moved, swapped_there]), axis=1)
        there = np.concatenate([targets, where[partners]])
        first = np.concatenate([np.full(1 + len(partners), here), there])
        worth, _ = self._values(first, rows)
        split = 1 + len(partners)
        after_here = np.concatenate([np.full(len(targets), worth[0]), worth[1:split]])
        gain = near[there, instance] - near[here, instance]
        swap = slice(len(targets), None)
        gain[swap] += near[here, partners] - near[where[partners], partners] - 2 * self.pairs[instance, partners]
        deltas = after_here + worth[split:] - values[here] - values[there] + gain
        chances = np.append(deltas, 0.0) + temperature * self.rng.gumbel(size=len(deltas) + 1)
        chosen = int(np.argmax(chances))
        if chosen == len(deltas):
            return None
        row_here = rows[0] if chosen < len(targets) else rows[1 + chosen - len(targets)]
        return float(gain[chosen]), np.array([here, there[chosen]]), np.array([row_here, rows[split + chosen]])

    def _values(self, nodes: Ints, members: Ints) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Return nodes' scores with these members, without relations, less penalties; and which are infeasible."""
        at = nodes[:, None]
        ram = self.ram[at, members]
        used = np.cumsum(ram, axis=1)
        free = self.free[at] - used + ram
        asks = self.asks[members]
        fit = fit_points(asks, free)
        points = self.points[at, members]
        there = members < self.number
        over = self.barred[at, members].sum(axis=1)
        gpu_memory = self.gpu_memory[at, members].sum(axis=1)
        for wanted, there_is in ((used[:, -1], self.free[nodes]), (gpu_memory, self.free_gpu_memory[nodes])):
            over = over + np.maximum(0, wanted - there_is) / np.maximum(1, there_is)
        score = ((fit + points + self.load[nodes]) * there).sum(axis=1)
        return self.merit * score - PENALTY * over, over > 0


def _padded(rows: npt.ArrayLike) -> npt.NDArray[np.number]:
    """Return a matrix with one more column, of zeros."""
    return np.pad(np.asarray(rows), ((0, 0), (0, 1)))
