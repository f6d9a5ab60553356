"""`place`: nodes + instances in, a plan out. Pure; the only choice is which search walks the problem."""

from collections.abc import Callable, Iterable, Mapping

from placement.greedy import greedy
from placement.model import Instance, Node
from placement.plan import Outcome, Plan, record
from placement.problem import PORT_RANGE, Problem

Strategy = Callable[[Problem], Outcome]
STRATEGIES: dict[str, Strategy] = {"greedy": greedy}


def place(
    nodes: Iterable[Node],
    instances: Iterable[Instance],
    strategy: str = "greedy",
    pins: Mapping[str, str] | None = None,
    port_range: tuple[int, int] = PORT_RANGE,
    explain: bool = True,
) -> Plan:
    """The plan of a strategy for these instances on these nodes: all of them, or none.

    pins: instance -> node, binding. port_range: first and last port to give out. explain=False leaves the nodes that
    were not chosen out of the plan's explanation, which otherwise holds instances x nodes entries.
    The same nodes in any order and the same instances in the same order give the same plan, byte for byte.

    Raises Infeasible (with the reasons), BadInput (names given twice, pins of nobody), ValueError (unknown strategy).
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"no strategy is named {strategy!r}; there is {', '.join(sorted(STRATEGIES))}")
    problem = Problem(nodes, instances, pins or {}, port_range)
    return record(problem, strategy, STRATEGIES[strategy](problem), explain)
