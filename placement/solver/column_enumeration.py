"""List every configuration of a kind of node worth at least a given amount at given prices, by branch and bound."""

import time
from dataclasses import dataclass

import numpy as np

from placement.solver.lagrangian import PAIR, Prices, Relaxation
from placement.solver.node_configurations import Columns, Flags, Ints, fit_points

CHUNK = 2**21  # cells of a matrix of rows x items at once: some tens of MB


class TooMany(Exception):
    """There are more configurations than the caller can hold, or than can be listed in time."""


@dataclass
class _Rows:
    """Partial configurations of one length. Items are indexed by position among those allowed on this kind."""

    members: Ints
    last_count: Ints  # how often the last item is in the row
    free: Ints
    free_gpu_memory: Ints
    score: Ints
    worth: Ints  # score less the prices of the items
    preferred: Ints
    gpu: Ints
    free_sum: Ints
    near: Ints  # rows x items: the part of an item's affinity to earlier ones of the row that is credited to those

    def __getitem__(self, rows: Ints | Flags | slice) -> "_Rows":
        return _Rows(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @classmethod
    def joined(cls, parts: list["_Rows"]) -> "_Rows":
        """Concatenate all parts."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


class Listing:
    """The configurations of one kind at given whole prices; `top` is an upper bound on the worth of any of them."""

    def __init__(self, relaxation: Relaxation, at: int, prices: Prices, rewards: Ints, until: float) -> None:
        """rewards: of all kinds, as `relaxation` gives them for these prices. until: when to stop listing."""
        self.until = until
        items = self.items = relaxation.items
        self.at, self.kind = at, items.kinds[at]
        self.width = max(kind.slots for kind in items.kinds)
        self.may = np.flatnonzero(self.kind.may)
        self.charge = prices.items[self.may]
        self.completions = relaxation.completions(at, rewards[at])
        self.related = _among(items.related, self.may)
        self.apart = _among(items.apart, self.may)
        local = np.full(items.number, -1)
        local[self.may] = np.arange(len(self.may))
        self.near = np.zeros((len(self.may), len(self.may) if len(relaxation.near) else 0), dtype=np.int64)
        for (earlier, later), near in zip(local[relaxation.near], prices.near[:, at], strict=True):
            if earlier >= 0 and later >= 0:
                self.near[earlier, later] = near
        # Penalties that may be refunded after an item: of the pairs whose later item is still to come.
        penalties = np.zeros(len(self.may) + 1, dtype=np.int64)
        for (_, later), apart in zip(relaxation.apart, prices.apart[:, at], strict=True):
            penalties[np.searchsorted(self.may, later)] += apart
        self.penalties = np.append(np.cumsum(penalties[::-1])[::-1], 0)[1:]
        self.top = self.completions.best + int(penalties.sum())

    def above(self, floor: int, most: int) -> tuple[Columns, Ints]:
        """Return every configuration worth at least `floor`, and its worth; raise TooMany beyond `most` rows."""
        nothing = np.zeros(1, dtype=np.int64)
        rows = _Rows(
            np.zeros((1, 0), dtype=np.int64), nothing, nothing + self.kind.free_ram,
            nothing + self.kind.free_gpu_memory, nothing, nothing, nothing, nothing, nothing,
            np.zeros((1, self.near.shape[1]), dtype=np.int64),
        )  # fmt: skip
        found, worth, total = [], [], 0
        for used in range(self.kind.slots):
            parts = []
            step = max(1, CHUNK // len(self.may))
            for start in range(0, len(rows.free), step):
                parts.append(self._grown(rows[start : start + step], used, floor))
                total += len(parts[-1].free)
                if total > most or time.monotonic() > self.until:
                    raise TooMany
            rows = _Rows.joined(parts)
            good = rows[rows.worth >= floor]
            members = np.full((len(good.free), self.width), self.items.number, dtype=np.int64)
            members[:, : used + 1] = self.may[good.members]
            kinds = np.full(len(good.free), self.at, dtype=np.int64)
            found.append(Columns(kinds, members, good.score, good.preferred, good.gpu, good.free_sum))
            worth.append(good.worth)
            if not len(rows.free):
                break
        return Columns.joined(found), np.concatenate(worth)

    def _grown(self, rows: _Rows, used: int, floor: int) -> _Rows:
        """Extend each row by each item that may follow (a later one, or the last again) and can still reach `floor`."""
        kind, items, may = self.kind, self.items, self.may
        position = np.arange(len(may))
        fits = (kind.ram[may] <= rows.free[:, None]) & (kind.gpu_memory[may] <= rows.free_gpu_memory[:, None])
        if used:
            last = rows.members[:, -1:]
            fits &= (position > last) | ((position == last) & (rows.last_count[:, None] < items.sizes[may]))
            if self.apart is not None:
                fits &= ~self.apart[rows.members].any(axis=1)
        row, item = np.nonzero(fits)
        free, ram = rows.free[row], items.ram[may[item]]
        points = fit_points(ram, free) * items.scale
        points += kind.load[used] + kind.points[may[item]]
        if self.related is not None and used:
            here = self.related[rows.members[row], item[:, None]].sum(axis=1)
            points += np.minimum(25, PAIR * here) * items.scale
        worth = rows.worth[row] + points - self.charge[item]
        left = free - kind.ram[may[item]]
        promise = worth + self.completions(may[item], used + 1, left) + self.penalties[item]
        if self.near.shape[1]:
            later = np.cumsum(rows.near[:, ::-1], axis=1)[:, ::-1] - rows.near
            promise += later[row, item] + self.near.sum(axis=1)[item]
        keep = promise >= floor
        row, item, free, left, points, worth = (each[keep] for each in (row, item, free, left, points, worth))
        same = rows.members[row, -1] == item if used else np.zeros(len(row), dtype=bool)
        return _Rows(
            np.concatenate([rows.members[row], item[:, None]], axis=1),
            np.where(same, rows.last_count[row] + 1, 1),
            left,
            rows.free_gpu_memory[row] - kind.gpu_memory[may[item]],
            rows.score[row] + points,
            worth,
            rows.preferred[row] + kind.preferred[may[item]],
            rows.gpu[row] + kind.gpu_points[may[item]],
            rows.free_sum[row] + free,
            rows.near[row] + self.near[item],
        )


class Whole:
    """Replaces Listing for a kind with few configurations, which are listed once and only valued again."""

    def __init__(self, at: int, columns: Columns, prices: Prices) -> None:
        self.at, self.columns = at, columns
        charges = np.append(prices.items, 0)
        self.worth = columns.score - charges[columns.members].sum(axis=1)
        self.top = int(self.worth.max(initial=0))

    def above(self, floor: int, most: int) -> tuple[Columns, Ints]:
        """Return every configuration worth at least `floor`, and its worth."""
        rows = self.worth >= floor
        return self.columns[rows], self.worth[rows]


def _among(matrix: Flags | None, positions: Ints) -> Flags | None:
    """Restrict a relation to some items."""
    return None if matrix is None else matrix[np.ix_(positions, positions)]
