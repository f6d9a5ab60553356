"""Greedy's walk by a plain scan of every node for every instance: the tests' oracle and the benchmark's baseline.

It is the rule as DESIGN states it, and knows nothing of how placement.solver.greedy avoids the scan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from placement.constraints import feasible, rejections
from placement.plan import MOST_REASONS, Infeasible, Outcome
from placement.scoring import gpu, preferred_node, score

if TYPE_CHECKING:
    from placement.problem import Problem


def exhaustive(problem: Problem) -> Outcome:
    """What greedy has to choose. Raises Infeasible with every refused instance, and reasons up to MOST_REASONS."""
    capacities = problem.capacities()
    assignments: dict[str, str] = {}
    refused: dict[str, dict[str, list[str]]] = {}
    for request in problem.requests:
        best, best_rank = None, None
        for capacity in capacities:  # in natural order of names: of equals the first
            if feasible(capacity, request):
                # Score, then ties: the preferred node, the GPU match, the least free RAM.
                rank = (
                    score(capacity, request),
                    preferred_node(capacity, request),
                    gpu(capacity, request),
                    -capacity.free_ram,
                )
                if best_rank is None or rank > best_rank:
                    best, best_rank = capacity, rank
        if best is not None:
            best.add(request)
            assignments[request.instance.id] = best.node.name
        else:
            told = not refused or (len(refused) + 1) * len(capacities) <= MOST_REASONS
            refused[request.instance.id] = {
                capacity.node.name: rejections(capacity, request) for capacity in capacities if told
            }
    if refused:
        raise Infeasible(refused)
    return Outcome(assignments)
