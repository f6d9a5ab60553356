"""The exact search: the plan with the highest score, tie rules included, and the proof (method: FACTS 6).

1. A linear programme chooses configurations; columns come in while their reduced cost promises more.
2. Its prices bound every plan's score from above, in whole numbers: no rounding is trusted.
3. An integer programme over the columns close to the bound finds the best plan. Columns further from the bound than the
   plan's own distance cannot be part of a better one, so once all nearer ones were in, the plan is proven.
4. The tie rules follow as further objectives over the plans of that score.
"""

import random
import time

import highspy  # type: ignore[import-untyped] # no stubs
import numpy as np
import numpy.typing as npt

from placement.configurations import Columns, Ints, Items, TooMany, best_worth, enumerate_kind
from placement.greedy import greedy
from placement.plan import Infeasible, Outcome, Undecided
from placement.problem import Problem, Request, Room
from placement.scoring import gpu, preferred_node, score

TIME_LIMIT_S = 20.0
LISTED = 400_000  # configurations that are listed once and for all; beyond, columns are generated
PRICED = 40_000  # columns that one kind may bring at a time
MOST_INSTANCES = 2_000  # beyond, tables of relations and bounds outgrow memory and time: greedy's plan, unproven
BEAM = 400  # rows of one length that pricing follows
RELAXED_SHARE = 0.6  # of the time for the linear programme, at most
FIRST_WINDOW = 3  # points from the bound within which the integer programme looks first

Floats = npt.NDArray[np.float64]


def optimal(problem: Problem, time_limit_s: float = TIME_LIMIT_S, seed: int | None = None) -> Outcome:
    """The best plan, proven, or the best found within the limit and the bound on every plan's score.

    seed: one of the equally good plans, drawn; otherwise the first of them by the tie rules. Raises Infeasible when
    there is provably no plan, Undecided when the limit ended the search without one.
    """
    until = time.monotonic() + time_limit_s
    try:
        first, refused = greedy(problem), None
    except Infeasible as error:
        first, refused = None, error
    if not problem.requests:
        return Outcome({}, 0.0, True)
    if len(problem.requests) > MOST_INSTANCES:
        if first is None:
            raise Undecided(refused.rejections if refused else {}, time_limit_s)
        return first
    search = _Search(Items(problem), until)
    found = search.best(None if first is None else search.columns_of(problem, first))
    if found is None and first is None:
        if search.proven:
            raise Infeasible(refused.rejections if refused else {})
        raise Undecided(refused.rejections if refused else {}, time_limit_s)
    if found is None:
        assert first is not None  # noqa: S101 - for the type checker
        return Outcome(first.assignments, search.bound / search.items.scale, False)
    rows, value = found
    if search.proven:
        rows = search.tied(rows, value, seed)
    bound = value if search.proven else search.bound
    return Outcome(
        search.assignments(rows, seed if search.proven else None), float(bound / search.items.scale), search.proven
    )


class _Search:
    """One problem's columns, prices and bound. Scores are scaled whole numbers (see Items)."""

    def __init__(self, items: Items, until: float) -> None:
        self.items, self.until = items, until
        now = time.monotonic()
        self.relaxed_until = now + RELAXED_SHARE * (until - now)
        self.width = max((kind.slots for kind in items.kinds), default=0)
        self.proven = False
        # One row of the programme an item; an item that must be alike has one a node type, tied together by choices.
        self.types = sorted({kind.node_type for kind in items.kinds}) if items.alike.any() else []
        self.row_of = np.zeros((len(items.kinds), items.number), dtype=np.int64)
        at = 0
        for item in range(items.number):
            if items.alike[item]:
                for kind, node in enumerate(items.kinds):
                    self.row_of[kind, item] = at + self.types.index(node.node_type)
                at += len(self.types)
            else:
                self.row_of[:, item] = at
                at += 1
        self.item_rows = at
        self.prices = np.zeros(at, dtype=np.int64)
        self.sizes = np.array([len(kind.rooms) for kind in items.kinds], dtype=np.int64)
        self.bound = self._crude_bound()
        self.listing = self._listed()

    def _crude_bound(self) -> int:
        """Every instance at its best, alone on its best node."""
        if not self.items.kinds:
            return 0
        best = np.max([np.where(kind.may, kind.points + kind.load[0], 0) for kind in self.items.kinds], axis=0)
        return int(((best + 30 * self.items.scale + self.items.most_affinity) * self.items.sizes).sum())

    def _listed(self) -> Columns | None:
        """All configurations of all kinds, if they are not too many."""
        parts, room = [], LISTED
        try:
            for at in range(len(self.items.kinds)):
                parts.append(enumerate_kind(self.items, at, self.width, room)[0])
                room -= len(parts[-1])
        except TooMany:
            return None
        return Columns.joined(parts) if parts else None

    def columns_of(self, problem: Problem, outcome: Outcome) -> Columns:
        """A plan as columns, one a node in use."""
        rooms = {room.node.name: room for room in problem.rooms()}
        kind_of = {room.node.name: at for at, kind in enumerate(self.items.kinds) for room in kind.rooms}
        item_of = {
            request.instance.id: item for item, requests in enumerate(self.items.requests) for request in requests
        }
        members: dict[str, list[int]] = {}
        sums: dict[str, list[int]] = {}
        for request in problem.requests:
            name = outcome.assignments[request.instance.id]
            room = rooms[name]
            step = (
                int(score(room, request) * self.items.scale),
                int(preferred_node(room, request)),
                int(gpu(room, request)),
                room.free_ram,
            )
            sums[name] = [had + more for had, more in zip(sums.get(name, [0, 0, 0, 0]), step, strict=True)]
            members.setdefault(name, []).append(item_of[request.instance.id])
            room.add(request)
        padded = [sorted(row) + [self.items.number] * (self.width - len(row)) for row in members.values()]
        totals = np.array(list(sums.values()), dtype=np.int64)
        kinds = np.array([kind_of[name] for name in members], dtype=np.int64)
        return Columns(kinds, np.array(padded, dtype=np.int64), *totals.T)

    def late(self, until: float | None = None) -> bool:
        """The time is over."""
        return time.monotonic() > (until or self.until)

    def worth(self, columns: Columns) -> Ints:
        """Score less the prices of the items."""
        worth = columns.score.copy()
        prices = self._item_prices()
        for position in range(columns.members.shape[1]):
            worth -= prices[columns.kind, columns.members[:, position]]
        return worth

    def _item_prices(self) -> Ints:
        """Kinds x items (and a column of zeros for the padding)."""
        return np.concatenate([self.prices[self.row_of], np.zeros((len(self.row_of), 1), dtype=np.int64)], axis=1)

    def best(self, first: Columns | None) -> tuple[Columns, int] | None:
        """The best columns (a kind's may repeat) and their score, none below `first`; None when there is no plan."""
        if not self.items.kinds or not self._covered():
            self.proven = True
            return None
        columns = self._relaxed(first)
        if self.bound < 0:
            self.proven = True
            return None
        scale = self.items.scale
        known, value = first, None if first is None else int(first.score.sum())
        window = FIRST_WINDOW * scale
        while True:
            if value is not None:
                window = min(window, self.bound - value)
            near, whole = self._near(columns, window)
            solved = _integer(
                self, near, near.score / scale, self.until, None if value is None else (value - 1) / scale
            )
            if solved.rows is not None:
                reached = int(near[solved.rows].score.sum())
                if value is None or reached >= value:
                    known, value = near[solved.rows], reached
            if self.late() or not solved.finished or not whole:
                return None if known is None else (known, int(value or 0))
            if value is not None and self.bound - value <= window:
                self.proven = known is not None
                return None if known is None else (known, value)
            if value is None and window > self.bound:
                self.proven = True
                return None
            window = self.bound - value if value is not None else window * 8

    def _covered(self) -> bool:
        """Every item fits some kind of node, alone."""
        return bool(np.any([kind.may for kind in self.items.kinds], axis=0).all())

    def _relaxed(self, first: Columns | None) -> Columns:
        """Solve the linear programme; its columns. Prices and bound are of the round with the lowest bound."""
        programme = _Programme(self)
        columns = self._start() if first is None else Columns.joined([self._start(), first])
        programme.add(columns)
        best_prices = self.prices
        while True:
            prices = programme.prices()
            self.prices = np.rint(prices * self.items.scale).astype(np.int64)
            fresh, bound = self._priced()
            if bound < self.bound:
                self.bound, best_prices = bound, self.prices
            if (
                not len(fresh)
                or self.late(self.relaxed_until)
                or (bound - programme.value * self.items.scale) < 2 * self.items.number
            ):
                break
            columns = Columns.joined([columns, fresh])
            programme.add(fresh)
        self.prices = best_prices
        return columns

    def _start(self) -> Columns:
        """Columns of one item each."""
        if self.listing is not None:
            return self.listing[self.listing.members[:, 1] == self.items.number] if self.width > 1 else self.listing
        parts = [_single(self.items, at, self.width) for at in range(len(self.items.kinds))]
        return Columns.joined(parts)

    def _priced(self) -> tuple[Columns, int]:
        """The columns that promise most at these prices, and the bound on every plan's score that the prices give."""
        bound = int((self._demand() * self.prices).sum()) + self._alike_bound()
        if self.listing is not None:
            worth = self.worth(self.listing)
            top = np.zeros(len(self.items.kinds), dtype=np.int64)
            np.maximum.at(top, self.listing.kind, worth)
            bound += int((self.sizes * top).sum())
            gain = worth - self.kind_prices()[self.listing.kind]
            rows = np.flatnonzero(gain > 1)
            rows = rows[np.argsort(-gain[rows], kind="stable")[:400]]
            return self.listing[rows], bound
        parts = []
        prices, charges = self._item_prices(), self.kind_prices()
        for at in range(len(self.items.kinds)):
            if self.late(self.relaxed_until):
                return self._start()[:0], self.bound
            part, highest = self._best_of_kind(at, prices[at, :-1], int(charges[at]))
            parts.append(part)
            bound += int(self.sizes[at]) * highest
        return (Columns.joined(parts) if parts else self._start()[:0]), bound

    def _best_of_kind(self, at: int, prices: Ints, charge: int) -> tuple[Columns, int]:
        """Some of a kind's columns that are worth more than is charged, and at most how much any is worth."""
        found, dropped = enumerate_kind(self.items, at, self.width, LISTED, prices, charge + 2, BEAM)
        worth = self.worth(found)
        rows = np.argsort(-worth, kind="stable")[:8]
        return found[rows], max(charge + 2, dropped, int(worth.max(initial=0)))

    def kind_prices(self) -> Ints:
        """What the programme's own prices ask for a node of each kind, in the last round."""
        return self._kind_prices

    _kind_prices: Ints = np.zeros(0, dtype=np.int64)

    def _demand(self) -> Ints:
        """How often each row must be covered; rows of items that are alike are tied to their choice of type instead."""
        demand = np.zeros(self.item_rows, dtype=np.int64)
        for item in range(self.items.number):
            if not self.items.alike[item]:
                demand[self.row_of[0, item]] = self.items.sizes[item]
        return demand

    def alike_rows(self) -> dict[str, list[int]]:
        """Node type -> the rows of the items that must be on one type."""
        rows: dict[str, list[int]] = {name: [] for name in self.types}
        for item in np.flatnonzero(self.items.alike):
            kind = self.items.kinds[0]
            start = int(self.row_of[0, item]) - self.types.index(kind.node_type)
            for position, name in enumerate(self.types):
                rows[name].append(start + position)
        return rows

    def _alike_bound(self) -> int:
        """The best that one choice of type can pay at these prices."""
        return max((int(self.prices[rows].sum()) for rows in self.alike_rows().values()), default=0)

    def _near(self, columns: Columns, window: int) -> tuple[Columns, bool]:
        """Columns whose reduced cost is within the window, and whether those are all there are."""
        prices = self._item_prices()
        if self.listing is not None:
            worth = self.worth(self.listing)
            top = np.zeros(len(self.items.kinds), dtype=np.int64)
            np.maximum.at(top, self.listing.kind, worth)
            return self.listing[worth >= top[self.listing.kind] - window], True
        parts = []
        for at in range(len(self.items.kinds)):
            most = max(0, best_worth(self.items, at, prices[at, :-1]))
            try:
                parts.append(enumerate_kind(self.items, at, self.width, PRICED, prices[at, :-1], most - window)[0])
            except TooMany:
                return columns, False
            if self.late():
                return columns, False
        return Columns.joined(parts), True

    def tied(self, rows: Columns, value: int, seed: int | None) -> Columns:
        """Of the plans of this score the first by the tie rules, or, with a seed, one drawn."""
        near, whole = self._near(rows, self.bound - value)
        if not whole:
            return rows
        order = np.lexsort((*near.members.T[::-1], near.kind))
        near = near[order]
        loss = near.score / self.items.scale
        held = [(loss, value / self.items.scale)]
        objectives: list[Floats] = []
        if seed is not None:
            dice = random.Random(seed)  # noqa: S311 - drawn to be repeated, not to be secret
            objectives.append(np.array([dice.random() for _ in range(len(near))]))
        else:
            objectives.append(near.preferred.astype(float))
            objectives.append(near.gpu.astype(float))
            objectives.append(-near.free / 10**6)
            objectives += self._names(near)
        for objective in objectives:
            if self.late():
                break
            solved = _integer(self, near, objective, self.until, None, held)
            if solved.rows is None or int(near[solved.rows].score.sum()) != value:
                break
            rows = near[solved.rows]
            held.append((objective, float(objective[solved.rows].sum())))
        return rows

    def _names(self, near: Columns) -> list[Floats]:
        """Objectives that take the items in order, some at a time, to the kinds that come first by name."""
        kinds = len(self.items.kinds)
        if kinds < 2:
            return []
        some = max(1, int(6 / np.log10(kinds + 1)))
        objectives = []
        for start in range(0, self.items.number, some):
            weight = np.zeros(self.items.number + 1)
            for position, item in enumerate(range(start, min(start + some, self.items.number))):
                weight[item] = float(kinds) ** (some - 1 - position)
            objectives.append(-(weight[near.members].sum(axis=1) * near.kind))
        return objectives

    def assignments(self, rows: Columns, seed: int | None) -> dict[str, str]:
        """Instance -> node: those that are alike in their order, the first to the node that comes first by name."""
        free_rooms: list[list[Room]] = [list(kind.rooms) for kind in self.items.kinds]
        waiting: list[list[Request]] = [list(requests) for requests in self.items.requests]
        if seed is not None:
            dice = random.Random(seed)  # noqa: S311 - as above
            for nodes in free_rooms:
                dice.shuffle(nodes)
            for requests in waiting:
                dice.shuffle(requests)
        placed = {}
        configurations = sorted((int(kind), tuple(int(item) for item in members if item < self.items.number))
                                for kind, members in zip(rows.kind, rows.members, strict=True))  # fmt: skip
        for kind, members in configurations:
            room = free_rooms[kind].pop(0)
            for item in members:
                placed[waiting[item].pop(0).instance.id] = room.node.name
        return placed


def _single(items: Items, at: int, width: int) -> Columns:
    """Every configuration of one item of a kind."""
    kind = items.kinds[at]
    may = np.flatnonzero(kind.may)
    ram, free = items.ram[may], kind.free_ram
    fit = np.where(10 * ram < 3 * free, 20, np.where(10 * ram <= 7 * free, 30, 10))
    members = np.full((len(may), width), items.number, dtype=np.int64)
    members[:, 0] = may
    return Columns(
        np.full(len(may), at, dtype=np.int64),
        members,
        fit * items.scale + kind.load[0] + kind.points[may],
        kind.preferred[may],
        kind.gpu_points[may],
        np.full(len(may), free, dtype=np.int64),
    )


class _Solved:
    """What the integer programme answered: rows (with repetition) or none, and whether it came to its own end."""

    def __init__(self, rows: Ints | None, finished: bool) -> None:
        self.rows, self.finished = rows, finished


def _entries(search: _Search, columns: Columns) -> tuple[Ints, Ints, Floats]:
    """The columns' entries in the programme, one column after the other: starts, rows, values."""
    total = search.item_rows + len(search.sizes)
    row = np.concatenate([search.row_of, np.full((len(search.row_of), 1), -1)], axis=1)[
        columns.kind[:, None], columns.members
    ]
    row = np.concatenate([row, (search.item_rows + columns.kind)[:, None]], axis=1)
    column = np.broadcast_to(np.arange(len(columns))[:, None], row.shape)
    keys, counts = np.unique((column * total + row)[row >= 0], return_counts=True)
    starts = np.searchsorted(keys, np.arange(len(columns)) * total)
    return starts.astype(np.int64), keys % total, counts.astype(float)


def _solver(until: float) -> highspy.Highs:
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("time_limit", max(0.05, until - time.monotonic()))
    return solver


def _rows(solver: highspy.Highs, search: _Search) -> None:
    """The empty rows: every item is covered, no kind of node is used up."""
    nothing = np.zeros(0, dtype=np.int32), np.zeros(0)
    for demand in search._demand():
        solver.addRow(float(demand), float(demand), 0, *nothing)
    for size in search.sizes:
        solver.addRow(0.0, float(size), 0, *nothing)
    alike = search.alike_rows()
    if alike:
        solver.addRow(1.0, 1.0, 0, *nothing)
        last = search.item_rows + len(search.sizes)
        for rows in alike.values():
            index = np.array([*rows, last], dtype=np.int32)
            solver.addCol(0.0, 0.0, 1.0, len(index), index, np.array([-1.0] * len(rows) + [1.0]))


class _Programme:
    """The linear programme; it keeps its basis while columns come in. An uncovered item costs more than any plan."""

    def __init__(self, search: _Search) -> None:
        self.search = search
        self.solver = _solver(search.until)
        self.solver.setOptionValue("presolve", "off")
        self.solver.changeObjectiveSense(highspy.ObjSense.kMaximize)
        _rows(self.solver, search)
        penalty = -100.0 * (int(search.items.sizes.sum()) + 1)
        for row in range(search.item_rows):
            self.solver.addCol(penalty, 0.0, highspy.kHighsInf, 1, np.array([row], dtype=np.int32), np.ones(1))
        self.value = 0.0

    def add(self, columns: Columns) -> None:
        """Let the programme choose among these too."""
        starts, rows, values = _entries(self.search, columns)
        number = len(columns)
        self.solver.addCols(
            number,
            columns.score / self.search.items.scale,
            np.zeros(number),
            np.full(number, highspy.kHighsInf),
            len(rows),
            starts.astype(np.int32),
            rows.astype(np.int32),
            values,
        )

    def prices(self) -> Floats:
        """Solve, and what a further unit of each item's row would be worth, in points."""
        self.solver.run()
        self.value = self.solver.getInfo().objective_function_value
        duals = np.array(self.solver.getSolution().row_dual)
        rows = self.search.item_rows
        self.search._kind_prices = np.rint(
            np.maximum(0, duals[rows : rows + len(self.search.sizes)]) * self.search.items.scale
        ).astype(np.int64)
        return duals[:rows]


def _integer(
    search: _Search,
    columns: Columns,
    objective: Floats,
    until: float,
    above: float | None,
    held: list[tuple[Floats, float]] | None = None,
) -> _Solved:
    """The best choice of columns that covers every item once. above: only an objective of at least so much.

    held: earlier objectives, which must keep their values.
    """
    solver = _solver(until)
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.setOptionValue("mip_abs_gap", 1e-7)
    solver.changeObjectiveSense(highspy.ObjSense.kMaximize)
    _rows(solver, search)
    choices = solver.getNumCol()
    starts, rows, values = _entries(search, columns)
    number = len(columns)
    solver.addCols(
        number, objective, np.zeros(number), search.sizes[columns.kind].astype(float), len(rows),
        starts.astype(np.int32), rows.astype(np.int32), values,
    )  # fmt: skip
    everything = np.arange(choices, choices + number, dtype=np.int32)
    if above is not None:
        solver.addRow(above, highspy.kHighsInf, number, everything, objective)
    for weights, value in held or []:
        slack = 1e-6 * max(1.0, abs(value))
        solver.addRow(value - slack, highspy.kHighsInf, number, everything, weights)
    integral = [highspy.HighsVarType.kInteger] * (choices + number)
    solver.changeColsIntegrality(choices + number, np.arange(choices + number, dtype=np.int32), np.array(integral))
    solver.run()
    status = solver.getModelStatus()
    finished = status in (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kInfeasible)
    info = solver.getInfo()
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return _Solved(None, finished)
    chosen = np.rint(np.array(solver.getSolution().col_value)[choices:]).astype(np.int64)
    return _Solved(np.repeat(np.arange(number), chosen), finished)
