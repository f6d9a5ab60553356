"""`place`: from nodes and instances to a plan. Pure; strategies differ only in the search that solves the problem."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping

from placement.model import Instance, Node
from placement.plan import Outcome, Plan, record
from placement.problem import PORT_RANGE, Problem
from placement.solver.exact import TIME_LIMIT_S, optimal
from placement.solver.greedy import greedy

Strategy = Callable[[Problem, float, int | None], Outcome]
MOST_VERDICTS = 500_000  # pairs of instance and node that a plan explains: about 110 MB as JSON
STRATEGIES: dict[str, Strategy] = {"greedy": greedy, "optimal": optimal}


def place(
    nodes: Iterable[Node],
    instances: Iterable[Instance],
    strategy: str = "optimal",
    pins: Mapping[str, str] | None = None,
    port_range: tuple[int, int] = PORT_RANGE,
    explain: bool = True,
    time_limit_s: float = TIME_LIMIT_S,
    same_type: Collection[str] = (),
    seed: int | None = None,
    node_types: Mapping[str, str] | None = None,
) -> Plan:
    """Return the plan of a strategy for these instances on these nodes: all instances are placed, or none.

    pins: instance -> node, binding. port_range: first and last port to give out. explain=False leaves nodes that were
    not chosen out of the plan's explanation, which otherwise holds instances x nodes entries; beyond MOST_VERDICTS
    entries they are always left out. time_limit_s: when `optimal` stops searching and returns the best plan so far and
    its gap. same_type: ids that must all be on one node type. node_types: id -> the node type that it must be on. seed:
    `optimal` then draws one of the equally good plans instead of taking the first by the tie rules.

    The same nodes in any order and the same instances in the same order give the same plan, byte for byte, unless the
    time limit ended the search.

    Raises Infeasible (with the reasons), BadInput (duplicate names, pins with unknown names), ValueError (unknown
    strategy, invalid time limit).
    """
    if not 0 <= time_limit_s < math.inf:  # also rejects NaN, which no clock would ever exceed
        raise ValueError(f"time_limit_s: {time_limit_s} is not a number of seconds")
    if strategy not in STRATEGIES:
        raise ValueError(f"no strategy is named {strategy!r}; there is {', '.join(sorted(STRATEGIES))}")
    problem = Problem(nodes, instances, pins or {}, port_range, same_type, node_types)
    explain = explain and len(problem.nodes) * len(problem.requests) <= MOST_VERDICTS
    return record(problem, strategy, STRATEGIES[strategy](problem, time_limit_s, seed), explain, seed)
