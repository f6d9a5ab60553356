"""The seed's own walk (seed: Placement Algorithm): each instance in turn goes to the best node, given what is there."""

from placement.constraints import feasible, rejections
from placement.plan import Infeasible, Outcome
from placement.problem import Problem, Request, Room
from placement.scoring import Points, gpu, preferred_node, score


def greedy(problem: Problem, time_limit_s: float = 0, seed: int | None = None) -> Outcome:
    """Fast at any size, and no more than that: it never takes a step back.

    Raises Infeasible. What cannot be placed is left out and the walk goes on, so that every refused instance is named.
    """
    rooms = problem.rooms()
    assignments: dict[str, str] = {}
    refused: dict[str, dict[str, list[str]]] = {}
    for request in problem.requests:
        open_rooms = [room for room in rooms if feasible(room, request)]
        if open_rooms:
            best = max(open_rooms, key=lambda room: rank(room, request))  # the first of equals: natural order of names
            best.add(request)
            assignments[request.instance.id] = best.node.name
        else:
            refused[request.instance.id] = {room.node.name: rejections(room, request) for room in rooms}
    if refused:
        raise Infeasible(refused)
    return Outcome(assignments)


def rank(room: Room, request: Request) -> tuple[Points, Points, Points, int]:
    """Score, then ties: the preferred node, the GPU match, the least free RAM (DESIGN, Placement)."""
    return score(room, request), preferred_node(room, request), gpu(room, request), -room.free_ram
