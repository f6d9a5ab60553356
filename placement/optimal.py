"""The exact search: the plan with the highest score, and the proof."""

from placement.greedy import greedy
from placement.plan import Outcome
from placement.problem import Problem

TIME_LIMIT_S = 20.0


def optimal(problem: Problem, time_limit_s: float = TIME_LIMIT_S, seed: int | None = None) -> Outcome:
    """Placeholder until the search is in."""
    return greedy(problem, time_limit_s, seed)
