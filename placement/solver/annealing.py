"""A good plan where the proof is out of reach: simulated annealing over moves and swaps of instances.

One instance at a time is taken up; of all places it may move to and some it may swap with, one is drawn by the
Boltzmann distribution at the temperature of the moment ("heat bath"), staying where it is among them. All of them are
valued at once, node by node: a plan's score is separable by node. What does not fit costs PENALTY instead of being
forbidden, so that the search may start from, and pass through, what is no plan.
"""

import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from placement.solver.node_configurations import Ints, Items, fit_points

Floats = npt.NDArray[np.float64]

PENALTY = 300.0  # points: for a node whose RAM is twice overbooked, a pair that must be apart, a place that cannot be
HOT, COLD = 5.0, 0.4  # points: the temperature at the start and in the end
SWAPS = 128  # partners looked at for a swap at a time


class Annealing:
    """A search over who is where: `where[instance]` is a node, both by position, in the order of `items`."""

    def __init__(self, items: Items, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.names = [capacity.node.name for kind in items.kinds for capacity in kind.capacities]
        self.ids = [request.instance.id for requests in items.requests for request in requests]
        nodes = [kind for kind in items.kinds for _ in kind.capacities]
        each = np.repeat(np.arange(items.number), items.sizes)
        self.number, self.merit = len(each), 1.0  # merit: what a point of score counts
        may = np.array([kind.may[each] for kind in nodes])
        self.slots = np.array([kind.slots for kind in nodes])
        self.free = np.array([kind.free_ram for kind in nodes])
        self.free_gpu_memory = np.array([kind.free_gpu_memory for kind in nodes])
        # One column more, of nothing: the padding of a node's members.
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
        self.pairs = 10.0 * pair - PENALTY * apart  # what either of the two brings the other on one node

    def places(self, assignments: Mapping[str, str]) -> Ints:
        """A plan as a start."""
        index = {name: at for at, name in enumerate(self.names)}
        return np.array([index[assignments[id]] for id in self.ids], dtype=np.int64)

    def assignments(self, where: Ints) -> dict[str, str]:
        """Who is where, by name."""
        return {id: self.names[node] for id, node in zip(self.ids, where, strict=True)}

    def anywhere(self) -> Ints:
        """A start that is no plan: whoever comes takes a free slot, where it may be if it can."""
        where, free = np.zeros(self.number, dtype=np.int64), self.slots.copy()
        for instance in range(self.number):
            where[instance] = np.argmax(np.where(free > 0, free - 1000.0 * self.barred[:, instance], -np.inf))
            free[where[instance]] -= 1
        return where

    def improve(self, where: Ints, until: float, any_plan: bool = False) -> Ints | None:
        """The best plan seen until then; None when none was.

        where: where to start, with no more on a node than it has slots. any_plan: the first plan will do, and if there
        is none, what comes closest to one (`least`).
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
        """Whether some who must be apart are together."""
        return bool((near[where, np.arange(self.number)] < -PENALTY / 2).any())

    def _draw(
        self, instance: int, where: Ints, members: Ints, values: Floats, near: Floats, temperature: float
    ) -> tuple[float, Ints, Ints] | None:
        """What to do with the instance: (gain in relations, two nodes, their new members), or nothing."""
        here = int(where[instance])
        used = (members < self.number).sum(axis=1)
        targets = np.flatnonzero((used < self.slots) & (np.arange(len(used)) != here))
        partners = self.rng.permutation(self.number)[:SWAPS]
        partners = partners[where[partners] != here]
        mine = members[here]
        without = np.where(mine == instance, self.number, mine)[None, :]
        moved = np.concatenate([members[targets][:, :-1], np.full((len(targets), 1), instance)], axis=1)
        # A full row has no room to append to, but only a node with a slot left is a target.
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
        """Of each node with these members: its score less relations and penalties; and whether they do not fit."""
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
    """A matrix with one more column, of zeros."""
    return np.pad(np.asarray(rows), ((0, 0), (0, 1)))
