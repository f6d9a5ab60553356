"""The exact search: the plan with the highest score, tie rules included, and the proof (method: FACTS 6).

1. `relaxation` finds prices that bound every plan's score from above.
2. A linear program over configurations improves them; at its prices `listing` finds the configurations that are worth
   more than the linear program assumes, until there are none.
3. An integer program over the configurations close to the bound finds the best plan. A configuration that is further
   from the bound than the plan itself cannot be part of a better plan, so the plan is proven once all
   nearer ones are included.
4. The tie rules follow as further objectives over the plans of that score.

Bounds are computed in whole numbers: no rounding is trusted. Instances that must share one node type give one problem
for each type.
"""

import copy
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from placement.plan import Infeasible, Outcome, Undecided
from placement.problem import NOBODY, Capacity, Problem, Request
from placement.scoring import gpu, preferred_node, score
from placement.solver.annealing import Annealing
from placement.solver.any_plan import mend, pack
from placement.solver.column_enumeration import Listing, TooMany, Whole
from placement.solver.column_selection import Floats, Linear, choose
from placement.solver.first_by_name import first_by_name, named
from placement.solver.greedy import greedy
from placement.solver.lagrangian import PAIR, Prices, Relaxation
from placement.solver.node_configurations import Columns, Ints, Items

TIME_LIMIT_S = 20.0
MOST_INSTANCES = 2_000  # beyond, tables of relations and bounds exceed memory and time: greedy plan, unproven
MOST_ROUNDS = 200  # of the relaxation before the linear program
STEP = 2.0  # points by which a price moves in the first rounds
ANY = -(2**62)  # worth of a configuration: no limit
WHOLE = 8_000  # up to this number, the configurations of a kind are listed only once
PRICED = 20_000  # configurations of one kind and length that pricing looks at
NEAR = 30_000  # configurations in the integer program: with 90,000 HiGHS overran its time limit fourfold
FRESH = 20  # columns that a kind adds at a time
AHEAD = 1  # points below the best known of a kind that pricing tries first
MOST_TABLE = 2**13  # items x slots: beyond, a kind's table is too large to be computed repeatedly
TIGHTEN_SHARE = 0.6  # of the time for the linear program
FIRST_SHARE = 0.15  # of the time for the first pricing: a linear program needs a dozen or more


def optimal(problem: Problem, time_limit_s: float = TIME_LIMIT_S, seed: int | None = None) -> Outcome:
    """Return the best plan, proven, or the best found within the limit with a bound on every plan's score.

    seed: draw one of the equally good plans; without it, the first of them by the tie rules. Raises Infeasible if there
    is provably no plan, Undecided if the limit ended the search without one.
    """
    until = time.monotonic() + time_limit_s
    try:
        first, refused = greedy(problem), {}
    except Infeasible as error:
        first, refused = None, error.rejections
    if not problem.requests:
        return Outcome({}, 0.0, True)
    if len(problem.requests) > MOST_INSTANCES:
        if first is None:
            raise Undecided(refused, time_limit_s)
        return first
    variants = list(_variants(problem))
    answers = []
    for number, variant in enumerate(variants):
        now = time.monotonic()
        answers.append(_Search(variant, now + (until - now) / (len(variants) - number), seed).answer())
    proven = all(answer.proven for answer in answers)
    found = [answer for answer in answers if answer.assignments]
    if not found:
        raise Infeasible(refused) if proven else Undecided(refused, time_limit_s)
    value = max(answer.value for answer in found)
    tied = [answer for answer in found if answer.value == value]
    if seed is None:
        best = max(tied, key=lambda answer: _rank(problem, answer.assignments))
    else:
        best = random.Random(seed).choice(tied)  # noqa: S311 - reproducible, not for security
    return Outcome(best.assignments, max(answer.bound for answer in answers) / best.scale, proven)


def _variants(problem: Problem) -> Iterator[Problem]:
    """Yield the problem once for each node type that `same_type` instances can share; unchanged if there are none."""
    if not any(request.alike for request in problem.requests):
        yield problem
        return
    for name in sorted({node.node_type for node in problem.nodes}):
        variant = copy.copy(problem)
        variant.requests = [
            replace(request, alike=NOBODY, node_type=name) if request.alike else request for request in problem.requests
        ]
        if all(request.node_type in (None, name) for request in problem.requests if request.alike):
            yield variant


def _walk(problem: Problem, assignments: Mapping[str, str]) -> Iterator[tuple[Request, Capacity]]:
    """Yield each request in the fixed order with its node's capacity before the step."""
    capacities = {capacity.node.name: capacity for capacity in problem.capacities()}
    for request in problem.requests:
        capacity = capacities[assignments[request.instance.id]]
        yield request, capacity
        capacity.add(request)


def _rank(problem: Problem, assignments: Mapping[str, str]) -> tuple[int | list[int], ...]:
    """Return the key by which plans of the same score compare: the tie rules."""
    names = {node.name: -at for at, node in enumerate(problem.nodes)}
    steps = [
        (int(preferred_node(capacity, request)), int(gpu(capacity, request)), -capacity.free_ram)
        for request, capacity in _walk(problem, assignments)
    ]
    sums = [sum(column) for column in zip(*steps, strict=True)]
    return (*sums, [names[assignments[request.instance.id]] for request in problem.requests])


@dataclass(frozen=True)
class _Answer:
    """The result of a search. Scores are whole numbers, points times `scale`. No assignments: no plan was found."""

    assignments: Mapping[str, str]
    value: int
    bound: int
    proven: bool
    scale: int


class _Search:
    """The prices, the bound and the best known plan of one problem."""

    def __init__(self, problem: Problem, until: float, seed: int | None) -> None:
        self.problem, self.until, self.seed = problem, until, seed
        self.items = Items(problem)
        self.scale = self.items.scale
        self.sizes = np.array([len(kind.capacities) for kind in self.items.kinds], dtype=np.int64)
        self.width = max((kind.slots for kind in self.items.kinds), default=0)
        self.whole: dict[int, Columns | None] = {}
        self.slack = np.zeros(len(self.items.kinds), dtype=np.int64)
        self.proven = False

    def late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.until

    def answer(self) -> _Answer:
        """Run the search."""
        items = self.items
        if not items.kinds or not np.any([kind.may for kind in items.kinds], axis=0).all():
            return _Answer({}, 0, 0, True, self.scale)
        first, proven = self._first()
        if first is None:
            return _Answer({}, 0, 0 if proven else self._crude_bound(), proven, self.scale)
        self.known = self._columns_of(first)
        self.value = int(self.known.score.sum())
        self.relaxation = Relaxation(items)
        start = self.relaxation.start()
        rounds = min(MOST_ROUNDS, 15 + items.number)
        prices, _ = self.relaxation.improve(start, rounds, self._share(0.1), STEP)
        self.prices, self.pool = self.relaxation.whole(prices), self.known
        self.tops = np.zeros(len(self.sizes), dtype=np.int64)
        bound = self.relaxation.bound(self.prices, self.until)
        self.bound = self._crude_bound() if bound is None else bound
        if self._tighten():
            self._close()
        else:
            self._approach(prices)
        if self.proven:
            return _Answer(self._tied(), self.value, self.value, True, self.scale)
        self._anneal()
        assignments = named(self.problem, items, self.known)
        return _Answer(assignments, self.value, self.bound, False, self.scale)

    def _share(self, part: float) -> float:
        """Return the time at which this fraction of the remaining time has passed."""
        now = time.monotonic()
        return now + part * max(0.0, self.until - now)

    def _approach(self, prices: Prices) -> None:
        """Where the linear program is out of reach, find the best plan in its columns, or improve the prices."""
        if len(self.pool) > len(self.known):
            self._take(_distinct(self.pool), self._share(0.5))
        else:
            prices, _ = self.relaxation.improve(prices, 10 * MOST_ROUNDS, self._share(0.5), STEP * 0.75)
            whole = self.relaxation.whole(prices)
            bound = self.relaxation.bound(whole, self.until)
            self.bound = self.bound if bound is None else min(bound, self.bound)

    def _anneal(self) -> None:
        """Improve the known plan by annealing, in the remaining time."""
        annealing = Annealing(self.items)
        where = annealing.improve(annealing.places(named(self.problem, self.items, self.known)), self.until)
        better = None if where is None else self._columns_of(annealing.assignments(where))
        if better is not None and (value := int(better.score.sum())) > self.value:
            self.known, self.value = better, value

    def _take(self, columns: Columns, until: float) -> bool:
        """Choose the best plan from columns that include the known one; return whether the choice finished in time."""
        chosen = choose(self.items, columns, columns.score / self.scale, until, _rows_of(self.known, columns))
        if chosen.rows is not None and (value := int(columns.score[chosen.rows].sum())) >= self.value:
            self.known, self.value = columns[chosen.rows], value
        return chosen.finished

    def _first(self) -> tuple[Mapping[str, str] | None, bool]:
        """Return any plan, or None, and whether that is proven."""
        try:
            return greedy(self.problem).assignments, True
        except Infeasible:
            packed, proven = pack(self.items, self._share(0.4))
        if packed is None and not proven:
            annealing = Annealing(self.items)
            where = annealing.improve(annealing.anywhere(), self._share(0.25), any_plan=True)
            nearly = annealing.assignments(annealing.least if where is None else where)
            packed = mend(self.problem, nearly, self._share(0.4))
        if packed is None and not proven:
            packed, proven = pack(self.items, self.until)
        return packed, proven

    def _columns_of(self, assignments: Mapping[str, str]) -> Columns:
        """Convert a plan to columns, one for each node in use."""
        kinds = {capacity.node.name: at for at, kind in enumerate(self.items.kinds) for capacity in kind.capacities}
        members: dict[str, list[int]] = {}
        sums: dict[str, list[int]] = {}
        for request, capacity in _walk(self.problem, assignments):
            name = capacity.node.name
            points = int(score(capacity, request) * self.scale)
            step = (points, int(preferred_node(capacity, request)), int(gpu(capacity, request)), capacity.free_ram)
            sums[name] = [had + more for had, more in zip(sums.get(name, [0, 0, 0, 0]), step, strict=True)]
            members.setdefault(name, []).append(self.items.item_of[request.instance.id])
        padded = [sorted(row) + [self.items.number] * (self.width - len(row)) for row in members.values()]
        kind = np.array([kinds[name] for name in members], dtype=np.int64)
        return Columns(kind, np.array(padded, dtype=np.int64), *np.array(list(sums.values()), dtype=np.int64).T)

    def _crude_bound(self) -> int:
        """Return the bound with every instance at its best score, alone on its best node."""
        best = np.max([np.where(kind.may, kind.points + kind.load[0], 0) for kind in self.items.kinds], axis=0)
        return int(((best + (30 + 25) * self.scale) * self.items.sizes).sum())

    # the linear program

    def _tighten(self) -> bool:
        """Improve the prices by the linear program over all configurations. Return False if it is not solved in time.

        Pricing uses the midpoint between the program's own prices, which oscillate while it has few columns, and the
        best known prices (Wentges, 1997): either that gives a missing column, or it halves the gap between the bound
        and its value.
        """
        if self.items.number * self.width > MOST_TABLE:
            return False
        linear, until = Linear(self.items, self.until), self._share(FIRST_SHARE)
        fresh = self._priced(self.prices, np.zeros(len(self.sizes), dtype=np.int64), until)
        until = self._share(TIGHTEN_SHARE)
        while fresh is not None:
            self.pool = Columns.joined([self.pool, fresh])
            linear.add(self.pool[-len(fresh) :] if linear.number else self.pool)
            solved = linear.solve()
            if solved is None:
                return False
            value, items, kinds = solved
            if self.bound - value * self.scale < self.scale // 10:
                return True
            bound = self.bound
            fresh = self._priced(
                replace(self.prices, items=(self.prices.items + np.rint(items * self.scale).astype(np.int64)) // 2),
                (self.tops + np.rint(kinds * self.scale).astype(np.int64)) // 2,
                until,
            )
            if fresh is not None and not len(fresh) and self.bound == bound:
                return False
        return False

    def _priced(self, prices: Prices, charges: Ints, until: float) -> Columns | None:
        """Return the most valuable of the configurations that exceed their kind's charge; None if there is no time.

        Adopt the prices and their bound, if the bound is better.
        """
        rewards = self.relaxation.rewards(prices, PAIR * self.scale)
        bound, tops, parts = int(self.items.sizes @ prices.items), charges.copy(), [self.known[:0]]
        for at, charge in enumerate(charges):
            if time.monotonic() > until:
                return None
            listing = self._listing(at, prices, rewards, until)
            columns, tops[at] = self._best(listing, int(charge))
            bound += int(self.sizes[at] * tops[at])
            parts.append(columns)
        if bound <= self.bound:
            self.bound, self.prices, self.tops = bound, prices, tops
        return Columns.joined(parts)

    def _listing(self, at: int, prices: Prices, rewards: Ints, until: float) -> Listing | Whole:
        """Return the configurations of a kind at these prices."""
        if at not in self.whole:
            listing = Listing(self.relaxation, at, prices, rewards, until)
            try:
                self.whole[at] = listing.above(ANY, WHOLE)[0]
            except TooMany:
                self.whole[at] = None
        columns = self.whole[at]
        return Listing(self.relaxation, at, prices, rewards, until) if columns is None else Whole(at, columns, prices)

    def _best(self, listing: Listing | Whole, charge: int) -> tuple[Columns, int]:
        """Return a kind's most valuable columns above the charge, and a bound (>= charge) on the worth of any."""
        # `slack`: by how much the last best column was below what the relaxation promised.
        floor, step, highest = listing.top, int(self.slack[listing.at]) + AHEAD * self.scale, listing.top
        while highest > charge:
            floor, step = max(charge + 1, floor - step), 2 * step
            try:
                columns, worth = listing.above(floor, PRICED)
            except TooMany:
                return self.known[:0], highest
            if len(columns):
                self.slack[listing.at] = listing.top - worth.max()
                return columns[np.argsort(-worth, kind="stable")[:FRESH]], int(worth.max())
            highest = floor - 1
        return self.known[:0], max(charge, highest)

    # the integer program

    def _close(self) -> None:
        """Find the best plan near the bound, proven once all columns that a better plan could use are included."""
        window, until = self.scale // 2, self._share(0.9)
        while time.monotonic() < until:
            window = min(window, self.bound - self.value)
            near = self._near(window)
            if near is None:
                return
            if not self._take(near, until):
                return
            if self.bound - self.value <= window:
                self.proven = True
                return
            window *= 3

    def _near(self, window: int) -> Columns | None:
        """Return columns within `window` of their kind's best, and the known plan's; None if too many or too late."""
        rewards = self.relaxation.rewards(self.prices, PAIR * self.scale)
        parts = [self.known]
        for at in range(len(self.sizes)):
            if self.late():
                return None
            listing = self._listing(at, self.prices, rewards, self.until)
            try:
                parts.append(listing.above(int(self.tops[at]) - window, NEAR)[0])
            except TooMany:
                return None
            if sum(map(len, parts)) > NEAR:
                return None
        return _distinct(Columns.joined(parts))

    def _tied(self) -> Mapping[str, str]:
        """Return the first plan by the tie rules among those with the known score, or, with a seed, a drawn one."""
        near = self._near(self.bound - self.value)
        if near is None:
            return named(self.problem, self.items, self.known)
        rows = _rows_of(self.known, near)
        held = [(near.score / self.scale, self.value / self.scale)]
        if self.seed is not None:
            rng = random.Random(self.seed)  # noqa: S311 - reproducible, not for security
            rows = self._best_of(near, rows, held, np.array([rng.random() for _ in range(len(near))]))
            return self._drawn(near[rows], rng)
        # Preferred nodes, then the GPU match: one preferred node outweighs all GPU points together.
        first = near.preferred * (15 * len(self.problem.requests) + 1) + near.gpu
        for objective in (first.astype(float), -near.free / 10**6):
            rows = self._best_of(near, rows, held, objective)
            held.append((objective, float(objective[rows].sum())))
        return first_by_name(self.problem, self.items, near, rows, held, self.until)

    def _best_of(self, near: Columns, rows: Ints, held: list[tuple[Floats, float]], objective: Floats) -> Ints:
        """Return the plan with the highest objective that keeps the values in `held`."""
        chosen = choose(self.items, near, objective, self.until, rows, held)
        right = chosen.rows is not None and int(near.score[chosen.rows].sum()) == self.value
        return chosen.rows if right and chosen.rows is not None else rows

    def _drawn(self, rows: Columns, rng: random.Random) -> dict[str, str]:
        """Return {instance: node} with interchangeable instances and interchangeable nodes in a drawn order."""
        capacities: list[list[Capacity]] = [list(kind.capacities) for kind in self.items.kinds]
        waiting: list[list[Request]] = [list(requests) for requests in self.items.requests]
        for nodes in capacities:
            rng.shuffle(nodes)
        for requests in waiting:
            rng.shuffle(requests)
        rows = _sorted(rows)
        return {
            waiting[item].pop().instance.id: capacity.node.name
            for kind, members in zip(rows.kind, rows.members, strict=True)
            for capacity in (capacities[kind].pop(),)
            for item in members[members < self.items.number]
        }


def _distinct(columns: Columns) -> Columns:
    """Remove duplicate columns, keeping the order."""
    columns = _sorted(columns)
    rows = np.column_stack([columns.kind, columns.members])
    return columns[np.append(True, (rows[1:] != rows[:-1]).any(axis=1))]


def _rows_of(plan: Columns, columns: Columns) -> Ints:
    """Return the positions of a plan's columns among other columns."""
    place = {row.tobytes(): at for at, row in enumerate(np.column_stack([columns.kind, columns.members]))}
    rows = np.column_stack([plan.kind, plan.members])
    return np.array([place[row.tobytes()] for row in rows], dtype=np.int64)


def _sorted(columns: Columns) -> Columns:
    """Sort by kind, and within it by members."""
    return columns[np.lexsort((*columns.members.T[::-1], columns.kind))]
