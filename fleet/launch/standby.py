"""Where each instance of a run would go if its node were lost: what it needs is made ready there before it starts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from placement import Experiment, Infeasible, Node, Plan, place


def standbys(
    experiment: Experiment, nodes: Sequence[Node], plan: Plan, pins: Mapping[str, str]
) -> dict[str, str | None]:
    """Return {instance: the node where it would go}; None where nothing else fits, or a pin keeps it.

    The others stay where they are. Of a lost node all instances are placed anew together if there is a plan for that,
    else each alone.
    """
    found: dict[str, str | None] = dict.fromkeys(plan.assignments)
    for home in dict.fromkeys(plan.assignments.values()):
        lost = [id for id, node in plan.assignments.items() if node == home and id not in pins]
        for together in (lost, *([id] for id in lost)):
            where = _without(home, together, experiment, nodes, plan)
            found |= {id: found[id] or where.get(id) for id in together}
            if where and together is lost:
                break
    return found


def told(found: Mapping[str, str | None]) -> str:
    """Return them as a line for a person."""
    ready = ", ".join(f"{id} on {node}" for id, node in found.items() if node)
    none = ", ".join(id for id, node in found.items() if not node)
    return "; ".join(_parts(ready, none))


def _parts(ready: str, none: str) -> Iterator[str]:
    if ready:
        yield f"if its node is lost: {ready}, made ready too"
    if none:
        yield f"no other node for {none}"


def _without(
    home: str, lost: Collection[str], experiment: Experiment, nodes: Sequence[Node], plan: Plan
) -> Mapping[str, str]:
    """Return where these would go without a node; empty where there is no plan."""
    stay = {id: node for id, node in plan.assignments.items() if node != home}
    instances = [one for one in experiment.instances if one.id in stay or one.id in lost]
    left = [node for node in nodes if node.name != home]
    if not left or not lost:
        return {}
    try:
        return place(left, instances, "greedy", stay, explain=False).assignments
    except Infeasible:
        return {}
