"""Soft scores: how good a node is for an instance, 0 to 100 points (specification: Scoring System).

Each scorer is a pure function of the node's capacity before the instance is added. Scores are exact fractions, so that
ties are exact."""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from placement.problem import Capacity, Request

Points = int | Fraction


def ram_fit(capacity: Capacity, request: Request) -> Points:
    """u = ram_gb / free RAM: 30 for 0.3 <= u <= 0.7, 20 below, 10 above (specification: 1. Resource Efficiency)."""
    if 10 * request.ram < 3 * capacity.free_ram:
        return 20
    return 30 if 10 * request.ram <= 7 * capacity.free_ram else 10


def next_step(capacity: Capacity, request: Request) -> int | None:
    """Return the most RAM below the request's that would first fit here, or change the ram_fit points; None: none."""
    free = capacity.free_ram
    return next((step for step in (free, 7 * free // 10, (3 * free - 1) // 10) if step < request.ram), None)


def load(capacity: Capacity, request: Request) -> Points:
    """20 x (1 - instances / max_instances) (specification: 2. Load Balancing)."""
    return load_points(capacity.taken_slots, capacity.node.max_instances)


def gpu(capacity: Capacity, request: Request) -> Points:
    """15 for a GPU wanted and there, 5 for none wanted and none there, else 0 (specification: 3. GPU Preference)."""
    if request.instance.gpu == "none":
        return 0 if capacity.node.gpu else 5
    return 15 if capacity.node.gpu else 0


def affinity(capacity: Capacity, request: Request) -> Points:
    """min(25, 10 x related instances already here), related by either of the two (specification: 4. Affinity)."""
    return min(25, 10 * len(request.related & capacity.ids.keys())) if request.related else 0


def preferred_node(capacity: Capacity, request: Request) -> Points:
    """10 for the node that the instance prefers (specification: 5. Preferred Node)."""
    return 10 if request.instance.preferred_node == capacity.node.name else 0


Scorer = Callable[[Capacity, Request], Points]
SCORERS: tuple[Scorer, ...] = (ram_fit, load, gpu, affinity, preferred_node)


def components(capacity: Capacity, request: Request) -> dict[str, Points]:
    """Return each scorer's points, by its name."""
    return {scorer.__name__: scorer(capacity, request) for scorer in SCORERS}


def score(capacity: Capacity, request: Request) -> Points:
    """Return the sum of all points."""
    return sum((scorer(capacity, request) for scorer in SCORERS), start=0)


@lru_cache(maxsize=4096)
def load_points(taken: int, most: int) -> Points:
    """Return the load points of a node with `taken` of `most` instances."""
    points = Fraction(20 * (most - taken), most)
    return points.numerator if points.denominator == 1 else points
