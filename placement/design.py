"""Placement as experimental design: conditions of an experiment on its plans, so that hardware is not a confound.

same_type       these minds are all on one type of node
randomize       the plan is drawn at random among equally good ones; the plan records the seed
counterbalance  over repeats, each of these minds is on each type of node equally often
"""

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise, product
from typing import Any

from placement.constraints import rejections
from placement.faults import Fault
from placement.model import NODE_TYPES, Instance, Node
from placement.plan import Infeasible, Plan
from placement.problem import PORT_RANGE, Problem
from placement.strategies import place

SEEDS = 2**32
MOST_TRIED = 200  # offsets of a schedule that are tried before the design is rejected


@dataclass(frozen=True)
class Design:
    """The key `design` of an experiment file."""

    same_type: tuple[str, ...] = ()
    randomize: bool = False
    counterbalance: tuple[str, ...] = ()

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Design":
        """Build from the document, which the schema has checked."""
        return cls(
            tuple(raw.get("same_type", ())), bool(raw.get("randomize", False)), tuple(raw.get("counterbalance", ()))
        )


@dataclass(frozen=True)
class Schedule:
    """The node type of each counterbalanced mind, one row per repeat; after the last row the first is used again."""

    types: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]

    def row(self, repeat: int) -> Mapping[str, str]:
        """Return {mind: node type} of a repeat, counted from 1."""
        return self.rows[(repeat - 1) % len(self.rows)]

    def to_json(self, repeat: int) -> dict[str, Any]:
        """Return what a plan records: the repeat, the number of repeats, and the whole schedule, to detect changes."""
        return {
            "repeat": repeat,
            "of": len(self.rows),
            "types": list(self.types),
            "node_types": dict(self.row(repeat)),
            "schedule": [dict(row) for row in self.rows],
        }


@dataclass(frozen=True)
class Terms:
    """What a design means for one launch: options of place(), and what the plan records of them."""

    same_type: tuple[str, ...]
    seed: int | None
    node_types: Mapping[str, str]
    counterbalance: Mapping[str, Any] | None


class Unbalanced(Infeasible):
    """No balanced schedule exists: fewer than two node types, or a repeat without a plan."""

    def __init__(self, reason: str, rejections: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        self.reason = reason
        super().__init__(rejections)

    def _text(self) -> str:
        return "\n".join([self.reason, *super()._text().splitlines()[1:]])

    def to_json(self) -> dict[str, Any]:
        """Return Infeasible's JSON data with the `reason` added."""
        return {**super().to_json(), "reason": self.reason}


def design_terms(
    design: Design,
    nodes: Iterable[Node],
    instances: Iterable[Instance],
    pins: Mapping[str, str] | None = None,
    port_range: tuple[int, int] = PORT_RANGE,
    seed: int | None = None,
    repeat: int = 1,
    time_limit_s: float = 20.0,
) -> Terms:
    """Return the terms of one launch. A missing seed is drawn here if needed; all else is determined by the input.

    repeat: number of this launch of a counterbalanced experiment, from 1. Raises Unbalanced.
    """
    schedule = None
    if design.counterbalance:
        schedule = balanced(design, list(nodes), list(instances), pins or {}, port_range, time_limit_s)
    return Terms(
        same_type=design.same_type,
        seed=secrets.randbelow(SEEDS) if design.randomize and seed is None else seed,
        node_types=schedule.row(repeat) if schedule else {},
        counterbalance=schedule.to_json(repeat) if schedule else None,
    )


def place_designed(
    design: Design,
    nodes: Iterable[Node],
    instances: Iterable[Instance],
    strategy: str = "optimal",
    pins: Mapping[str, str] | None = None,
    port_range: tuple[int, int] = PORT_RANGE,
    *,
    seed: int | None = None,
    repeat: int = 1,
    time_limit_s: float = 20.0,
    placing: Callable[..., Plan] = place,
) -> Plan:
    """Call place() under the terms of a design, and record them in the plan. Raises as place() does, and Unbalanced.

    placing: place(), or a function with the same arguments, such as whatif.place_and_explain().
    """
    nodes, instances = list(nodes), list(instances)
    terms = design_terms(design, nodes, instances, pins, port_range, seed, repeat, time_limit_s)
    plan = placing(
        nodes,
        instances,
        strategy,
        pins,
        port_range,
        time_limit_s=time_limit_s,
        same_type=terms.same_type,
        seed=terms.seed,
        node_types=terms.node_types,
    )
    return replace(plan, counterbalance=terms.counterbalance)


def balanced(
    design: Design,
    nodes: Sequence[Node],
    instances: Sequence[Instance],
    pins: Mapping[str, str],
    port_range: tuple[int, int],
    time_limit_s: float,
) -> Schedule:
    """Return the schedule of a counterbalanced design: each repeat has a plan and moves each mind to another node type.

    The types are those on which every one of the minds can run. In repeat k mind i is on type (offset_i + k - 1) mod T.
    Offsets are 0, 1, 2, ...; if a repeat then has no plan, other offsets are tried in a fixed order. Allocations of
    other runs are ignored, so that each launch finds the same schedule. Raises Unbalanced.
    """
    until = time.monotonic() + time_limit_s
    empty = [
        replace(node, current_instances=0, allocated_ram_gb=0, allocated_gpu_memory_gb=0, used_ports=frozenset())
        for node in nodes
        if node.status == "HEALTHY"
    ]
    types = _types(design.counterbalance, empty, instances, port_range)
    groups = _groups(design)
    known: dict[tuple[str, ...], Infeasible | None] = {}
    first: tuple[int, Mapping[str, str], Infeasible] | None = None

    def refused(row: Mapping[str, str]) -> Infeasible | None:
        if (key := tuple(row.values())) not in known:
            left = max(0.1, until - time.monotonic())
            known[key] = _refused(empty, instances, pins, port_range, design.same_type, row, left)
        return known[key]

    tried = 0
    for offsets in islice(_offsets(len(groups), len(types)), MOST_TRIED):
        if tried and time.monotonic() > until:
            break
        tried += 1
        rows = [
            {
                mind: types[(offset + k) % len(types)]
                for offset, group in zip(offsets, groups, strict=True)
                for mind in group
            }
            for k in range(len(types))
        ]
        failed = next(((k, row, error) for k, row in enumerate(rows, start=1) if (error := refused(row))), None)
        if failed is None:
            return Schedule(types, tuple(rows))
        first = first or failed
    assert first is not None  # noqa: S101 - for the type checker: at least one was tried
    repeat, row, error = first
    raise Unbalanced(
        f"no plan: counterbalance finds no schedule over {', '.join(types)} with a plan in each of its {len(types)} "
        f"repeats ({tried} tried). The first fails in repeat {repeat}, with {on_types(row)}:",
        error.rejections,
    )


def pin_contradictions(
    design: Design,
    nodes: Iterable[Node],
    instances: Iterable[Instance],
    pins: Mapping[str, str],
    source: str = "placement",
) -> Iterator[Fault]:
    """Yield faults for pins that contradict the experiment, whatever is free. Each fault names both sides."""
    type_of = {node.name: node.node_type for node in nodes}
    pinned = {id: node for id, node in pins.items() if node in type_of}
    apart = {frozenset((one.id, other)) for one in instances if one.id in pinned for other in one.anti_affinity}
    for a, b in sorted(sorted(pair) for pair in apart if len(pair) == 2 and pair <= pinned.keys()):
        if pinned[a] == pinned[b]:
            problem = "pinned together, but anti_affinity keeps them apart; pin one elsewhere, or leave a pin out"
            yield Fault(source, f"{a}:{pinned[a]}, {b}:{pinned[b]}", problem)
    alike = [id for id in design.same_type if id in pinned]
    for a, b in pairwise(alike):
        one, other = type_of[pinned[a]], type_of[pinned[b]]
        if one != other:
            mend = "pin them to nodes of one type, or leave a pin out"
            problem = f"a {one} and a {other}, but design.same_type wants {a} and {b} on one type of node; {mend}"
            yield Fault(source, f"{a}:{pinned[a]}, {b}:{pinned[b]}", problem)
    groups = _groups(design)
    for id, node in pinned.items():
        for group in groups:
            if id in group or {id, *group} <= set(design.same_type):
                through = "" if id in group else f", and design.same_type has {id} go with it"
                mend = "leave out the pin, or the mind there"
                problem = (
                    f"pinned, but design.counterbalance moves {group[0]} from type to type of node{through}; {mend}"
                )
                yield Fault(source, f"{id}:{node}", problem)


def on_types(row: Mapping[str, str]) -> str:
    """Return a row as text: `a on a raspberry_pi, b on a jetson_orin`."""
    return ", ".join(f"{mind} on a {node_type}" for mind, node_type in row.items())


def _types(
    minds: Collection[str], nodes: Sequence[Node], instances: Sequence[Instance], port_range: tuple[int, int]
) -> tuple[str, ...]:
    """Return the node types on which each of the minds can run, alone on an empty node."""
    alone = [instance for instance in instances if instance.id in minds]
    problem = Problem(nodes, alone, {}, port_range)
    why = {
        request.instance.id: {capacity.node.name: rejections(capacity, request) for capacity in problem.capacities()}
        for request in problem.requests
    }
    there = [name for name in NODE_TYPES if any(node.node_type == name for node in nodes)]
    able = {
        name: all(any(not why[mind][node.name] for node in nodes if node.node_type == name) for mind in minds)
        for name in there
    }
    types = tuple(name for name in there if able[name])
    if len(types) < 2:
        raise Unbalanced(
            f"no plan: counterbalance needs 2 types of HEALTHY node on which each of {', '.join(minds)} can run; "
            f"there is {f'only {types[0]}' if types else 'none'}",
            {
                mind: barred
                for mind in minds
                if (barred := {node: reasons for node, reasons in why[mind].items() if reasons})
            },
        )
    return types


def _groups(design: Design) -> list[tuple[str, ...]]:
    """Return the groups of counterbalanced minds; minds that must share one node type form one group."""
    alike = tuple(mind for mind in design.counterbalance if mind in design.same_type)
    return list(dict.fromkeys(alike if mind in alike else (mind,) for mind in design.counterbalance))


def _offsets(groups: int, types: int) -> Iterator[tuple[int, ...]]:
    """Yield the starting types of the groups: 0, 1, 2, ... first, then all other combinations in a fixed order.

    The first group always starts at 0: shifting all groups by one gives the same schedule, started at another repeat.
    """
    usual = tuple(group % types for group in range(groups))
    yield usual
    yield from (offsets for rest in product(range(types), repeat=groups - 1) if (offsets := (0, *rest)) != usual)


def _refused(
    nodes: Sequence[Node],
    instances: Sequence[Instance],
    pins: Mapping[str, str],
    port_range: tuple[int, int],
    same_type: Collection[str],
    node_types: Mapping[str, str],
    time_limit_s: float,
) -> Infeasible | None:
    """Return why there is no plan under these node types, or None if there is one, whatever its score."""
    error = None
    for strategy in ("greedy", "optimal"):  # the exact search only where the fast one fails
        try:
            place(
                nodes, instances, strategy, pins, port_range, explain=False, time_limit_s=time_limit_s,
                same_type=same_type, node_types=node_types,
            )  # fmt: skip
        except Infeasible as infeasible:
            error = infeasible
        else:
            return None
    return error
