"""The specification's greedy pass (Placement Algorithm): each instance in turn goes to the node that scores highest.

The result equals a scan of all nodes for each instance, without the scan. Instances of one GPU demand come by falling
RAM, so a node's score for the next one changes only when the node takes an instance, or when the RAM asked for falls
below one of three thresholds (scoring.next_step). Only then is a node ranked again. The few nodes related to the
instance itself (its pin, its preferred node, the nodes of its relations) are examined one by one.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from heapq import heappop, heappush
from itertools import groupby

from placement import constraints, scoring
from placement.constraints import feasible, rejections
from placement.plan import MOST_REASONS, Infeasible, Outcome
from placement.problem import Capacity, Problem, Request
from placement.scoring import Points

Cost = tuple[float, Fraction]
Entry = tuple[Cost, Points, int, int]  # score, GPU match, free RAM, position: the least is the best node


def greedy(problem: Problem, time_limit_s: float = 0, seed: int | None = None) -> Outcome:
    """Place each instance in turn, without backtracking: fast at any size, but without proof.

    Raises Infeasible. An instance that cannot be placed is skipped, so that every such instance is named.
    """
    capacities = problem.capacities()
    positions = {capacity.node.name: at for at, capacity in enumerate(capacities)}
    placed: dict[str, int] = {}
    refused: dict[str, dict[str, list[str]]] = {}
    for _, run in groupby(problem.requests, key=lambda request: request.instance.gpu):
        requests = list(run)
        ranking = _Ranking(capacities, requests)
        for request in requests:
            best = _best(capacities, _candidates(capacities, ranking, positions, placed, request), request)
            if best is None:
                explained = not refused or len(capacities) * (len(refused) + 1) <= MOST_REASONS
                refused[request.instance.id] = _reasons(capacities, request) if explained else {}
            else:
                capacities[best].add(request)
                ranking.renew(best, request)
                placed[request.instance.id] = best
    if refused:
        raise Infeasible(refused)
    return Outcome({id: capacities[at].node.name for id, at in placed.items()})


def rank(capacity: Capacity, request: Request) -> tuple[Points, Points, Points, int]:
    """Return the sort key of a node: score, then the preferred node, the GPU match, the least free RAM (DESIGN)."""
    return (
        scoring.score(capacity, request),
        scoring.preferred_node(capacity, request),
        scoring.gpu(capacity, request),
        -capacity.free_ram,
    )


def _candidates(
    capacities: Sequence[Capacity],
    ranking: "_Ranking",
    positions: Mapping[str, int],
    placed: Mapping[str, int],
    request: Request,
) -> set[int]:
    """Return positions of feasible nodes, including the best one."""
    if request.pin is not None:
        special, first = {positions[request.pin]}, None
    else:
        special = {placed[id] for id in request.related if id in placed}
        preferred = request.instance.preferred_node
        if preferred is not None and preferred in positions:
            special.add(positions[preferred])
        first = ranking.first(request, {placed[id] for id in request.apart if id in placed})
    candidates = {at for at in special if feasible(capacities[at], request)}
    if first is not None:
        candidates.add(first)
    return candidates


def _best(capacities: Sequence[Capacity], candidates: Collection[int], request: Request) -> int | None:
    """Return the best of these nodes, on ties the first by natural order of names; None if there are none."""
    if len(candidates) <= 1:
        return next(iter(candidates), None)
    return max(sorted(candidates), key=lambda at: rank(capacities[at], request))


def _reasons(capacities: Iterable[Capacity], request: Request) -> dict[str, list[str]]:
    """Return the reasons for rejection, node by node."""
    return {capacity.node.name: rejections(capacity, request) for capacity in capacities}


class _Ranking:
    """The nodes ranked, best first, for instances of one GPU demand without a pin, a preferred node or relations.

    A node has one entry, in the heaps of all nodes and, if some request is bound to a node type, in those of its type.
    A replaced entry stays in the heaps until it reaches the top. The heaps form a Fenwick tree over the amounts of GPU
    memory asked for: the nodes with at least so much free are in O(log) of them.
    """

    def __init__(self, capacities: Sequence[Capacity], requests: Sequence[Request]) -> None:
        first = requests[0]
        self.capacities = capacities
        self.amounts = sorted({request.gpu_memory for request in requests}) if _wants_gpu(first) else [0]
        self.entries: list[Entry | None] = [None] * len(capacities)
        self.by_type = any(request.node_type or request.alike for request in requests)
        self.heaps: dict[str | None, dict[int, list[Entry]]] = defaultdict(lambda: defaultdict(list))  # None: all nodes
        self.steps: list[int | None] = [None] * len(capacities)  # the RAM request at which a node must be ranked again
        self.waiting: list[tuple[int, int]] = []  # heap of (-step, position)
        for at in range(len(capacities)):
            self.renew(at, first)

    def first(self, request: Request, apart: Collection[int]) -> int | None:
        """Return the position of the best node not in `apart`; None if there is none.

        Preferences and affinities are not counted: they only improve nodes that the caller examines itself.
        """
        while self.waiting and -self.waiting[0][0] >= request.ram:
            negated, at = heappop(self.waiting)
            if -negated == self.steps[at]:
                self.renew(at, request)
        alike = self.capacities[0].types.get(request.alike) if self.capacities and request.alike else None
        if request.node_type and alike and request.node_type != alike:
            return None
        tops = [self._top(heap, apart) for heap in self._heaps_with(request.node_type or alike, request)]
        best = min(filter(None, tops), default=None)
        return None if best is None else best[-1]

    def renew(self, at: int, request: Request) -> None:
        """Rank a node again, for instances that ask for as much RAM as this request."""
        capacity, entry, step = self.capacities[at], None, None
        if not any(refuses(capacity, request) for refuses in _FOR_ALL):
            if request.ram <= capacity.free_ram:
                match = scoring.gpu(capacity, request)
                points = scoring.ram_fit(capacity, request) + match
                entry = (
                    _cost(points, capacity.taken_slots, capacity.node.max_instances),
                    -match,
                    capacity.free_ram,
                    at,
                )
                for heap in self._heaps_of(capacity, request):
                    heappush(heap, entry)
            step = scoring.next_step(capacity, request)
            if step is not None:
                heappush(self.waiting, (-step, at))
        self.entries[at], self.steps[at] = entry, step

    def _top(self, heap: list[Entry], apart: Collection[int]) -> Entry | None:
        """Return the least entry that is current and whose node is not in `apart`."""
        aside = []
        while heap:
            at = heap[0][-1]
            if self.entries[at] is not heap[0]:
                heappop(heap)
            elif at in apart:
                aside.append(heappop(heap))
            else:
                break
        top = heap[0] if heap else None
        for entry in aside:
            heappush(heap, entry)
        return top

    def _heaps_of(self, capacity: Capacity, request: Request) -> Iterator[list[Entry]]:
        """Yield the heaps that a node's entry belongs to."""
        most = len(self.amounts)
        if capacity.node.gpu and _wants_gpu(request):
            free = max(0, capacity.free_gpu_memory)
            most = bisect_right(self.amounts, min(free, capacity.free_ram) if capacity.node.unified else free)
        for node_type in (None, capacity.node.node_type) if self.by_type else (None,):
            heaps, at = self.heaps[node_type], most
            while at > 0:
                yield heaps[at]
                at &= at - 1

    def _heaps_with(self, node_type: str | None, request: Request) -> Iterator[list[Entry]]:
        """Yield the heaps that together hold the nodes of a type with enough GPU memory for a request."""
        heaps = self.heaps[node_type]
        at = bisect_left(self.amounts, request.gpu_memory) + 1 if _wants_gpu(request) else 1
        while at <= len(self.amounts):
            if at in heaps:
                yield heaps[at]
            at += at & -at


_FOR_ALL = (constraints.status, constraints.slots, constraints.gpu, constraints.ports)  # equal for all of one demand


def _wants_gpu(request: Request) -> bool:
    return request.instance.gpu != "none"


@lru_cache(maxsize=2**16)
def _cost(points: int, taken: int, most: int) -> Cost:
    """Return the negated sum of `points` and load, exact: the float decides unless rounding made two equal."""
    cost = Fraction(-points) - scoring.load_points(taken, most)
    return float(cost), cost
