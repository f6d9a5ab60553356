"""The seed's own walk (seed: Placement Algorithm): each instance in turn goes to the best node, given what is there.

It chooses what a scan of all nodes would choose, without the scan. Instances of one GPU demand come by falling RAM, so
what a node is to the next one changes only when the node takes an instance, or when the RAM asked for falls past one of
three steps of it (scoring.next_step). Only then is a node ranked again. The few that have something to do with the very
instance (its pin, its preferred node, the nodes of its relations) are looked at one by one.
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
from placement.problem import Problem, Request, Room
from placement.scoring import Points

Cost = tuple[float, Fraction]
Entry = tuple[Cost, Points, int, int]  # score, GPU match, free RAM, position: the least is the best room


def greedy(problem: Problem, time_limit_s: float = 0, seed: int | None = None) -> Outcome:
    """Fast at any size, and no more than that: it never takes a step back.

    Raises Infeasible. What cannot be placed is left out and the walk goes on, so that every refused instance is named.
    """
    rooms = problem.rooms()
    positions = {room.node.name: at for at, room in enumerate(rooms)}
    placed: dict[str, int] = {}
    refused: dict[str, dict[str, list[str]]] = {}
    for _, run in groupby(problem.requests, key=lambda request: request.instance.gpu):
        requests = list(run)
        ranking = _Ranking(rooms, requests)
        for request in requests:
            best = _best(rooms, _candidates(rooms, ranking, positions, placed, request), request)
            if best is None:
                told = not refused or len(rooms) * (len(refused) + 1) <= MOST_REASONS
                refused[request.instance.id] = _reasons(rooms, request) if told else {}
            else:
                rooms[best].add(request)
                ranking.renew(best, request)
                placed[request.instance.id] = best
    if refused:
        raise Infeasible(refused)
    return Outcome({id: rooms[at].node.name for id, at in placed.items()})


def rank(room: Room, request: Request) -> tuple[Points, Points, Points, int]:
    """Score, then ties: the preferred node, the GPU match, the least free RAM (DESIGN, Placement)."""
    return (
        scoring.score(room, request),
        scoring.preferred_node(room, request),
        scoring.gpu(room, request),
        -room.free_ram,
    )


def _candidates(
    rooms: Sequence[Room],
    ranking: "_Ranking",
    positions: Mapping[str, int],
    placed: Mapping[str, int],
    request: Request,
) -> set[int]:
    """Positions of feasible rooms, the best one among them."""
    if request.pin is not None:
        special, first = {positions[request.pin]}, None
    else:
        special = {placed[id] for id in request.related if id in placed}
        preferred = request.instance.preferred_node
        if preferred is not None and preferred in positions:
            special.add(positions[preferred])
        first = ranking.first(request, {placed[id] for id in request.apart if id in placed})
    candidates = {at for at in special if feasible(rooms[at], request)}
    if first is not None:
        candidates.add(first)
    return candidates


def _best(rooms: Sequence[Room], candidates: Collection[int], request: Request) -> int | None:
    """The best of these rooms, of equals the first by natural order of names; None when there are none."""
    if len(candidates) <= 1:
        return next(iter(candidates), None)
    return max(sorted(candidates), key=lambda at: rank(rooms[at], request))


def _reasons(rooms: Iterable[Room], request: Request) -> dict[str, list[str]]:
    """Node by node, what refuses the request."""
    return {room.node.name: rejections(room, request) for room in rooms}


class _Ranking:
    """The rooms as instances of one GPU demand see them whom nothing binds to a particular one, best first.

    A room has one entry, in the heaps of all rooms and, where some request is bound to a node type, in those of its
    type. An entry that a later one has replaced stays in the heaps until it gets to the top. The heaps form a Fenwick
    tree over the amounts of GPU memory asked for: the rooms with at least so much free lie in O(log) of them.
    """

    def __init__(self, rooms: Sequence[Room], requests: Sequence[Request]) -> None:
        first = requests[0]
        self.rooms = rooms
        self.amounts = sorted({request.gpu_memory for request in requests}) if _wants_gpu(first) else [0]
        self.entries: list[Entry | None] = [None] * len(rooms)
        self.by_type = any(request.node_type or request.alike for request in requests)
        self.heaps: dict[str | None, dict[int, list[Entry]]] = defaultdict(lambda: defaultdict(list))  # None: all rooms
        self.steps: list[int | None] = [None] * len(rooms)  # the RAM asked for at which a room is to be ranked again
        self.waiting: list[tuple[int, int]] = []  # heap of (-step, position)
        for at in range(len(rooms)):
            self.renew(at, first)

    def first(self, request: Request, apart: Collection[int]) -> int | None:
        """The position of the best room but for those in `apart`; None when there is none.

        Preferences and affinities are not counted: they only make rooms better that the caller knows.
        """
        while self.waiting and -self.waiting[0][0] >= request.ram:
            negated, at = heappop(self.waiting)
            if -negated == self.steps[at]:
                self.renew(at, request)
        alike = self.rooms[0].types.get(request.alike) if self.rooms and request.alike else None
        if request.node_type and alike and request.node_type != alike:
            return None
        tops = [self._top(heap, apart) for heap in self._heaps_with(request.node_type or alike, request)]
        best = min(filter(None, tops), default=None)
        return None if best is None else best[-1]

    def renew(self, at: int, request: Request) -> None:
        """Rank a room again, as it is now to instances that ask for as much RAM as this one."""
        room, entry, step = self.rooms[at], None, None
        if not any(refuses(room, request) for refuses in _FOR_ALL):
            if request.ram <= room.free_ram:
                match = scoring.gpu(room, request)
                points = scoring.ram_fit(room, request) + match
                entry = (_cost(points, room.taken_slots, room.node.max_instances), -match, room.free_ram, at)
                for heap in self._heaps_of(room, request):
                    heappush(heap, entry)
            step = scoring.next_step(room, request)
            if step is not None:
                heappush(self.waiting, (-step, at))
        self.entries[at], self.steps[at] = entry, step

    def _top(self, heap: list[Entry], apart: Collection[int]) -> Entry | None:
        """The least entry that stands, of a room not in `apart`."""
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

    def _heaps_of(self, room: Room, request: Request) -> Iterator[list[Entry]]:
        """Those that a room's entry belongs to."""
        most = len(self.amounts)
        if room.node.gpu and _wants_gpu(request):
            free = max(0, room.free_gpu_memory)
            most = bisect_right(self.amounts, min(free, room.free_ram) if room.node.unified else free)
        for node_type in (None, room.node.node_type) if self.by_type else (None,):
            heaps, at = self.heaps[node_type], most
            while at > 0:
                yield heaps[at]
                at &= at - 1

    def _heaps_with(self, node_type: str | None, request: Request) -> Iterator[list[Entry]]:
        """Those that together hold the rooms of a type with enough GPU memory for a request."""
        heaps = self.heaps[node_type]
        at = bisect_left(self.amounts, request.gpu_memory) + 1 if _wants_gpu(request) else 1
        while at <= len(self.amounts):
            if at in heaps:
                yield heaps[at]
            at += at & -at


_FOR_ALL = (constraints.status, constraints.slots, constraints.gpu, constraints.ports)  # alike to all of one demand


def _wants_gpu(request: Request) -> bool:
    return request.instance.gpu != "none"


@lru_cache(maxsize=2**16)
def _cost(points: int, taken: int, most: int) -> Cost:
    """The negated score of `points` and the load, exact: the float decides at once unless rounding made two equal."""
    cost = Fraction(-points) - scoring.load_points(taken, most)
    return float(cost), cost
