"""Bound every plan: what nodes can hold at most at given prices, and the prices that minimize the sum of it.

Lagrangian relaxation. A placed instance pays its price; a plan's score is at most the sum of all prices plus, for each
node, the best configuration's score less the prices in it. Without relations, the best configuration of a node is a
knapsack along the fixed order, solved by dynamic programming over (slots used, RAM used) for many kinds of nodes at
once. Relations are included as prices too: the 10 points of an affinity are split between the two instances, kind by
kind, and instances that must be apart pay, kind by kind, for being on it.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from placement.solver.node_configurations import Flags, Ints, Items, fit_points

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]  # of points as floats, or of whole scaled points

NEVER = -(2**50)
LEVELS = 128  # of used RAM in a table for many kinds; finer sizes are rounded so that the bound stays valid
CELLS = 2**26  # of a table of choices: 64 MB
KEPT = 2**24  # cells of tables that are kept for their next prices: 128 MB
PAIR = 10  # points of an affinity
MOST_EARLIER = 3  # an instance with more affinities than that to earlier ones is credited its 25 points always


@dataclass
class Prices:
    """Prices in points, or scaled as whole numbers (`whole`)."""

    items: Numbers  # of each item
    near: Numbers  # pairs x kinds: the part of an affinity's 10 points that the earlier item gets
    apart: Numbers  # pairs x kinds: what each of the two items pays; never negative


class Relaxation:
    """The relaxation of one problem."""

    def __init__(self, items: Items) -> None:
        self.items = items
        self.sizes = np.array([len(kind.capacities) for kind in items.kinds], dtype=np.int64)
        self.may = np.array([kind.may for kind in items.kinds])
        self.points = np.array([kind.points for kind in items.kinds], dtype=np.int64)
        earlier = np.zeros(items.number, dtype=np.int64)
        self.near = self.apart = np.zeros((0, 2), dtype=np.int64)  # pairs: the earlier, the later
        if items.related is not None:
            earlier = np.tril(items.related, -1).sum(axis=1)
            pairs = np.argwhere(np.tril(items.related, -1))[:, ::-1]
            self.near = pairs[earlier[pairs[:, 1]] <= MOST_EARLIER]
        if items.apart is not None:
            self.apart = np.argwhere(np.tril(items.apart, -1))[:, ::-1]
        self.points += np.where(earlier > MOST_EARLIER, 25 * items.scale, 0)
        self.batches = list(_batches(items))
        self.tables: dict[int, Completions] = {}

    def start(self) -> Prices:
        """Return initial prices: about the score of a step."""
        kinds = len(self.sizes)
        best = np.where(self.may, self.points, 0).max(axis=0) / self.items.scale
        near, apart = np.full((len(self.near), kinds), PAIR / 2), np.zeros((len(self.apart), kinds))
        return Prices(best + 30, near, apart)

    def whole(self, prices: Prices) -> Prices:
        """Return the prices in whole scaled numbers, in which a bound is exact."""
        scale = self.items.scale
        items, near, apart = (
            np.rint(part * scale).astype(np.int64) for part in (prices.items, prices.near, prices.apart)
        )
        return Prices(items, np.clip(near, 0, PAIR * scale), np.maximum(0, apart))

    def rewards(self, prices: Prices, pair: int) -> Numbers:
        """Return kinds x items: an item's points there besides fit and load. pair: the points of an affinity."""
        rewards = (self.points / self.items.scale if pair == PAIR else self.points) - prices.items
        for (earlier, later), near in zip(self.near, prices.near, strict=True):
            rewards[:, earlier] += near
            rewards[:, later] += pair - near
        for (earlier, later), apart in zip(self.apart, prices.apart, strict=True):
            rewards[:, earlier] -= apart
            rewards[:, later] -= apart
        rewards[~self.may] = NEVER
        return rewards

    def improve(self, prices: Prices, rounds: int, until: float, step: float) -> tuple[Prices, float]:
        """Return the best prices of so many rounds of subgradient descent (fewer if time is over), and their bound.

        Each price moves by about `step` points at first and by a fiftieth of that at the end, by the rule of Adam
        (Kingma and Ba, 2015), up for items placed too often at these prices and down for those placed too rarely. The
        bound is in points and subject to rounding errors.
        """
        best, bound, began = prices, np.inf, time.monotonic()
        parts = [prices.items, prices.near, prices.apart]
        mean = [np.zeros_like(part) for part in parts]
        square = [np.zeros_like(part) for part in parts]
        for number in range(1, rounds + 1):
            solved = self._solve(Prices(*parts), until)
            if solved is None:
                break
            value, chosen = solved
            if value < bound:
                best, bound = Prices(*parts), value
            earlier, later = chosen[:, self.near[:, 0]].T, chosen[:, self.near[:, 1]].T
            together = chosen[:, self.apart[:, 0]].T + chosen[:, self.apart[:, 1]].T
            slopes = [self.items.sizes - self.sizes @ chosen, earlier - later, 1.0 - together]
            slopes[2][(parts[2] <= 0) & (slopes[2] > 0)] = 0
            over = max(number / rounds, (time.monotonic() - began) / (until - began))
            length = step * 0.02**over
            for at, slope in enumerate(slopes):
                mean[at] = 0.8 * mean[at] + 0.2 * slope
                square[at] = 0.98 * square[at] + 0.02 * slope**2
                ahead = mean[at] / (1 - 0.8**number) / (np.sqrt(square[at] / (1 - 0.98**number)) + 0.1)
                parts[at] = parts[at] - length * ahead
            parts[1], parts[2] = np.clip(parts[1], 0, PAIR), np.maximum(0, parts[2])
        return best, float(bound)

    def _solve(self, prices: Prices, until: float) -> tuple[float, Floats] | None:
        """Return the bound at these prices, and kinds x items: how often a kind's best configuration has an item."""
        rewards = self.rewards(prices, PAIR).astype(np.float32)
        value = float(self.items.sizes @ prices.items + self.sizes @ prices.apart.sum(axis=0))
        chosen = np.zeros(self.may.shape)
        for batch in self.batches:
            if time.monotonic() > until:
                return None
            best, chosen[batch.kinds] = batch.solve(rewards[batch.kinds])
            value += float(self.sizes[batch.kinds] @ best)
        return value, chosen

    def bound(self, prices: Prices, until: float) -> int | None:
        """Return the bound on every plan's score at whole prices, exact; None if there is no time for it."""
        rewards = self.rewards(prices, PAIR * self.items.scale)
        value = int(self.items.sizes @ prices.items + self.sizes @ prices.apart.sum(axis=0))
        for batch in self.batches:
            if time.monotonic() > until:
                return None
            value += int(self.sizes[batch.kinds] @ batch.best(rewards[batch.kinds]))
        return value

    def completions(self, kind: int, rewards: Ints) -> "Completions":
        """Return the table of one kind, valid until the next call for this kind. rewards: of its items, whole."""
        table = self.tables.get(kind) or Completions(self.items, kind)
        if sum(each.table.size for each in self.tables.values()) < KEPT:
            self.tables[kind] = table
        table.fill(rewards)
        return table


class Knapsacks:
    """Tables of kinds whose instances take the same RAM: value[kind, slots used, level of RAM used]."""

    def __init__(self, items: Items, kinds: Sequence[int], levels: int) -> None:
        self.kinds = list(kinds)
        nodes = [items.kinds[kind] for kind in kinds]
        self.items, self.loads = items, [node.load for node in nodes]
        self.total = np.array([node.free_ram for node in nodes])
        self.ram = nodes[0].ram
        self.order = np.flatnonzero(np.any([node.may for node in nodes], axis=0))
        self.slots = max(node.slots for node in nodes)
        most = int(self.total.max())
        unit = int(np.gcd.reduce(np.append(self.ram[self.order], self.total))) or 1  # a node may have no RAM left
        self.unit = unit if most // unit < levels else -(-most // levels)
        self.free = self.total[:, None] - np.arange(most // self.unit + 1) * self.unit
        # RAM used may exceed its level: by less than one level for each instance.
        unsure = (self.unit - 1) * np.arange(self.slots) if self.unit != unit else np.zeros(1, dtype=np.int64)
        self.least = self.free[:, None, :] - unsure[:, None]
        self.takes = self.ram // self.unit

    def fit(self, item: int) -> Ints:
        """Return kinds x slots x levels (or fewer, to broadcast): the most points of fit possible, or NEVER."""
        asks, needs = int(self.items.ram[item]), int(self.ram[item])
        free = self.free[:, None, : self.free.shape[1] - self.takes[item]]
        least = self.least[:, :, : free.shape[2]]
        points = fit_points(asks, free, least)
        return np.where(free >= needs, points, NEVER)

    def load(self, scale: int) -> Numbers:
        """Return kinds x slots: points of load, whole numbers for the items' own scale, or NEVER."""
        load = np.full((len(self.kinds), self.slots), NEVER)
        for at, points in enumerate(self.loads):
            load[at, : len(points)] = points
        return load if scale == self.items.scale else load / self.items.scale

    def steps(
        self, fits: Sequence[Numbers], load: Numbers, rewards: Numbers
    ) -> Iterator[tuple[int, Numbers, list[tuple[slice, Numbers]]]]:
        """Go backwards in the order; yield (position, the table, gains not below the table's old value, by slots)."""
        value = np.zeros((len(self.kinds), self.slots + 1, self.free.shape[1]), dtype=rewards.dtype)
        base = load[:, None, :].astype(rewards.dtype) + rewards.T[self.order].transpose(1, 0)[:, :, None]
        for position in reversed(range(len(self.order))):
            item = self.order[position]
            takes, fit = int(self.takes[item]), fits[position]
            number = value.shape[2] - takes
            # An item that may occur several times can follow itself: slot by slot from the last one on.
            alone = self.items.sizes[item] == 1
            slots = [slice(0, self.slots)] if alone else [slice(at, at + 1) for at in reversed(range(self.slots))]
            gains = []
            for part in slots:
                gain = value[:, part.start + 1 : part.stop + 1, takes:] + base[:, position, part, None]
                gain += fit if fit.shape[1] == 1 else fit[:, part]
                there = value[:, part, :number]
                gains.append((part, gain > there))
                np.maximum(gain, there, out=there)
            yield position, value, gains


class Batch(Knapsacks):
    """Kinds that are solved together, repeatedly."""

    def __init__(self, items: Items, kinds: Sequence[int]) -> None:
        super().__init__(items, kinds, LEVELS)
        self.fits = [self.fit(int(item)).astype(np.float32) for item in self.order]
        self.points = self.load(1).astype(np.float32)
        self.taken: Flags = np.zeros((len(self.order), len(self.kinds), self.slots, self.free.shape[1]), dtype=bool)

    def solve(self, rewards: Numbers) -> tuple[Floats, Floats]:
        """Return each kind's best value, and how often each item is in it. rewards: kinds x items, in points."""
        value = np.zeros((len(self.kinds), 1, 1), dtype=np.float32)
        for position, value, gains in self.steps(self.fits, self.points, rewards):  # noqa: B007 - the last one counts
            takes = int(self.takes[self.order[position]])
            for part, better in gains:
                self.taken[position, :, part, : self.free.shape[1] - takes] = better
        return value[:, 0, 0].astype(float), self._chosen()

    def _chosen(self) -> Floats:
        """Return the choices stored in the tables, followed from the empty nodes on."""
        chosen = np.zeros((len(self.kinds), self.items.number))
        for kind in range(len(self.kinds)):
            position = level = 0
            for used in range(self.slots):
                ahead = self.taken[position:, kind, used, level]
                step = int(ahead.argmax()) if len(ahead) else 0
                if not len(ahead) or not ahead[step]:
                    break
                position += step
                item = self.order[position]
                chosen[kind, item] += 1
                level += int(self.takes[item])
                # An item that may occur several times can follow itself.
                position += bool(chosen[kind, item] >= self.items.sizes[item])
        return chosen

    def best(self, rewards: Ints) -> Ints:
        """Return each kind's best value, as a whole number."""
        scale = self.items.scale
        value: Ints = np.zeros((len(self.kinds), 1, 1), dtype=np.int64)
        fits = [np.where(fit >= 0, fit.astype(np.int64) * scale, NEVER) for fit in self.fits]
        for _, value, _ in self.steps(fits, self.load(scale), rewards):  # noqa: B007 - the last one counts
            pass
        return value[:, 0, 0]


class Completions(Knapsacks):
    """The full table of one kind: an upper bound on what a partly filled node can still gain."""

    def __init__(self, items: Items, kind: int) -> None:
        super().__init__(items, [kind], 8 * LEVELS)
        sizes = [(int(items.ram[item]), int(self.ram[item])) for item in self.order]
        fits = {size: self.fit(int(item)) for size, item in zip(sizes, self.order, strict=True)}
        scaled = {size: np.where(fit >= 0, fit * items.scale, NEVER) for size, fit in fits.items()}
        self.fits = [scaled[size] for size in sizes]
        self.points = self.load(items.scale)
        self.next = np.searchsorted(self.order, np.arange(items.number) + (items.sizes == 1))
        self.table = np.zeros((len(self.order) + 1, self.slots + 1, self.free.shape[1]), dtype=np.int64)

    def fill(self, rewards: Ints) -> None:
        """Compute the table again. rewards: of the items, whole."""
        for position, value, _ in self.steps(self.fits, self.points, rewards[None, :]):
            self.table[position] = value[0]

    def __call__(self, last: Ints, used: int, free: Ints) -> Ints:
        """Return the most that rows can gain after their last item, with `used` slots used and so much RAM free."""
        gain: Ints = self.table[self.next[last], used, (int(self.total[0]) - free) // self.unit]
        return gain

    @property
    def best(self) -> int:
        """Return an upper bound on the worth of any configuration, the empty one (0) included."""
        return int(self.table[0, 0, 0])


def _batches(items: Items) -> Iterator[Batch]:
    """Yield all kinds in groups of similar free RAM and equal demands, as large as memory allows."""
    waiting: list[int] = []
    order = sorted(
        range(len(items.kinds)), key=lambda kind: (items.kinds[kind].ram.tobytes(), items.kinds[kind].free_ram)
    )
    for kind in order:
        first = items.kinds[waiting[0]] if waiting else None
        cells = (len(waiting) + 1) * items.kinds[kind].slots * LEVELS * items.number
        node = items.kinds[kind]
        alike = first is not None and node.free_ram <= 1.5 * first.free_ram and (node.ram == first.ram).all()
        if waiting and not (alike and cells <= CELLS):
            yield Batch(items, waiting)
            waiting = []
        waiting.append(kind)
    if waiting:
        yield Batch(items, waiting)
