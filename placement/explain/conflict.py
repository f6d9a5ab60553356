"""Explain why there is no plan: the smallest conflict, and the changes that would make a plan possible.

Every statement is solved exactly: the exact search decides for each part of the problem and for each change whether a
plan exists. This takes time, so it is done only when a failure to plan is reported, never inside place().
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from math import gcd
from typing import Any

from placement.constraints import feasible
from placement.explain.minimal_subsets import Part, least, reduce, smallest
from placement.explain.scenario import Scenario
from placement.infeasibility import OF_ONE, Conflict, Constraint, Reasons, Remedy, listed
from placement.model import GPU_DEMANDS, MAX_GB, Node, gb, units
from placement.plan import Infeasible, Undecided
from placement.problem import PORTS, Capacity, Problem, Request, size
from placement.solver.exact import optimal
from placement.solver.greedy import greedy

MOST_STEPS = 500  # of the search for how many of a conflict's instances fit on a node
Found = tuple[int, Remedy] | None  # a change that works, and its amount, by which changes of one rank are sorted
SHARE = 4  # one query to the search may take 1/SHARE of the time that is left


class OutOfTime(Exception):
    """The time is over, or this query would take too large a share of it."""


def reasons(scenario: Scenario, time_limit_s: float) -> Reasons:
    """Return why this scenario, for which place() found no plan, is infeasible, and which changes would give it a plan.

    First the fewest instances that cannot all be placed are searched for, then the fewest of their constraints, in half
    of the time; if that runs out, the conflict says so (`smallest`, `irreducible` are false). The rest of the time is
    for the changes: one at a time, and only those that touch the conflict, since no other change can help.
    """
    finder = _Finder(scenario, time.monotonic() + time_limit_s / 2)
    conflict = finder.conflict()
    until = finder.until + time_limit_s / 2
    return Reasons(conflict, *_Remedies(scenario, conflict, finder.alike(), until).found())


def has_plan(scenario: Scenario, time_limit_s: float) -> bool | None:
    """Whether the scenario has a plan; None if the time limit ended the search before an answer."""
    try:
        return _has_plan(scenario.problem(), time.monotonic() + time_limit_s)
    except OutOfTime:
        return None


def conflict(scenario: Scenario, time_limit_s: float) -> Conflict:
    """Return the smallest conflict of a scenario that has no plan."""
    return _Finder(scenario, time.monotonic() + time_limit_s).conflict()


def _has_plan(problem: Problem, until: float) -> bool:
    """Whether a plan exists. Raises OutOfTime if the search ends without an answer."""
    left = until - time.monotonic()
    if left <= 0:
        raise OutOfTime
    try:
        greedy(problem)
    except Infeasible:
        try:
            optimal(problem, left / SHARE)
        except Undecided as error:
            raise OutOfTime from error
        except Infeasible:
            return False
    return True


class _Finder:
    """Search for the smallest conflict of a scenario that has no plan."""

    def __init__(self, scenario: Scenario, until: float) -> None:
        # An overcommitted node counts as full, so that an instance without demands fits there.
        self.problem = replace(scenario, nodes=tuple(_not_below_zero(node) for node in scenario.nodes)).problem()
        self.requests = {
            request.instance.id: replace(
                request, related=frozenset(), instance=replace(request.instance, preferred_node=None)
            )
            for request in self.problem.requests
        }
        self.until = until
        self.classes = list(_classes(self.requests.values()))
        self.constraints: list[Constraint] = []

    def alike(self) -> dict[str, list[str]]:
        """Return {id: the ids of its class}, a class being the instances that are interchangeable."""
        return {id: ids for ids in self.classes for id in ids}

    def conflict(self) -> Conflict:
        """Return the smallest conflict, or the best found in the time."""
        ids, irreducible, proven = self._search([len(ids) for ids in self.classes], self._instances_fail)
        chosen = self._first_of_classes(ids)
        self.constraints = list(self._constraints_of(chosen))
        self.chosen = chosen
        kept, irreducible_too, proven_too = self._search([1] * len(self.constraints), self._constraints_fail)
        suffice = [constraint for constraint, held in zip(self.constraints, kept, strict=True) if held]
        has, takes = self._nodes(self._relaxed(chosen, suffice), suffice)
        return Conflict(
            tuple(chosen),
            tuple(suffice),
            has,
            takes,
            smallest=proven and proven_too,
            irreducible=irreducible and irreducible_too,
        )

    def _search(self, most: list[int], fails: Callable[[Part], bool]) -> tuple[Part, bool, bool]:
        """Return the smallest failing part, whether it is irreducible, and whether it is proven to be the smallest."""
        part, irreducible = list(most), False
        try:
            reduce(part, fails)
            irreducible = True
            return smallest(most, fails, tuple(part)), True, True
        except OutOfTime:
            return tuple(part), irreducible, sum(part) <= 1

    def _first_of_classes(self, counts: Part) -> list[str]:
        return [id for ids, count in zip(self.classes, counts, strict=True) for id in ids[:count]]

    def _instances_fail(self, counts: Part) -> bool:
        ids = self._first_of_classes(counts)
        return not _has_plan(self._relaxed(ids, None), self.until)

    def _constraints_fail(self, kept: Part) -> bool:
        held = [constraint for constraint, count in zip(self.constraints, kept, strict=True) if count]
        return not _has_plan(self._relaxed(self.chosen, held), self.until)

    def _constraints_of(self, ids: Sequence[str]) -> Iterator[Constraint]:
        """Yield every constraint that can prevent a plan for these instances, the hardest to change first."""
        requests = [self.requests[id] for id in ids]
        for request in requests:
            if request.instance.gpu == "required":
                yield Constraint("gpu", (request.instance.id,), "needs a GPU")
        for request in requests:
            yield Constraint("ram", (request.instance.id,), f"needs {size(request.ram)} GB RAM")
        for request in requests:
            if request.gpu_memory and request.instance.gpu != "none":
                yield Constraint(
                    "gpu_memory", (request.instance.id,), f"needs {size(request.gpu_memory)} GB GPU memory"
                )
        for capacity in self.problem.capacities():
            node = capacity.node
            if node.status == "HEALTHY" and capacity.taken_slots + len(ids) > node.max_instances:
                yield Constraint("slots", (node.name,), f"{capacity.taken_slots} of {node.max_instances} taken")
        first, last = self.problem.ports[0], self.problem.ports[-1]
        yield Constraint("ports", (), f"each takes {len(PORTS)} ports of {first}-{last} on its node")
        for request in requests:
            for other in sorted(request.apart):
                if other in self.requests and other in ids and request.instance.id < other:
                    pair = (request.instance.id, other)
                    yield Constraint("anti_affinity", pair, f"{pair[0]} and {pair[1]} are to be apart")
        alike = [request.instance.id for request in requests if request.alike]
        if len(alike) > 1:
            yield Constraint("same_type", (), f"{', '.join(alike)} are to be on one type of node")
        for request in requests:
            if request.node_type is not None:
                yield Constraint("node_type", (request.instance.id,), f"must be on a {request.node_type}")
        for request in requests:
            if request.pin is not None:
                yield Constraint("pin", (request.instance.id,), f"is pinned to {request.pin}")

    def _relaxed(self, ids: Sequence[str], kept: Collection[Constraint] | None) -> Problem:
        """Return the problem of these instances with only these of their constraints; None: with all constraints."""
        here = set(ids)
        problem = copy(self.problem)
        requests = [self.requests[id] for id in ids]
        requests = [replace(request, apart=request.apart & here) for request in requests]
        if kept is not None:
            held = set(kept)
            requests = [_request(request, held) for request in requests]
            problem.nodes = [
                node if Constraint("slots", (node.name,)) in held else _roomy(node, len(ids)) for node in problem.nodes
            ]
            if Constraint("ports", ()) not in held:
                problem.nodes = [replace(node, used_ports=frozenset()) for node in problem.nodes]
                problem.ports = range(len(PORTS) * len(ids))
        problem.requests = sorted(requests, key=lambda request: (GPU_DEMANDS.index(request.instance.gpu), -request.ram))
        problem.instances = [request.instance for request in problem.requests]
        return problem

    def _nodes(self, problem: Problem, suffice: Sequence[Constraint]) -> tuple[dict[str, str], dict[str, int]]:
        """Return for each node that these requests may use: its resources as text, and how many of the requests fit."""
        has: dict[str, str] = {}
        takes: dict[str, int] = {}
        known: dict[Any, int | None] = {}
        for capacity in problem.capacities():
            node = capacity.node
            may = [r for r in problem.requests if r.pin in (None, node.name) and r.node_type in (None, node.node_type)]
            if not may:
                continue
            has[node.name] = self._has(capacity, may, suffice)
            key = (replace(node, name="", used_ports=frozenset()), len(capacity.ports), tuple(may))
            if key not in known:
                known[key] = _most(node, problem.ports, may)
            if (most := known[key]) is not None:
                takes[node.name] = most
        return has, takes

    def _has(self, capacity: Capacity, may: Sequence[Request], suffice: Sequence[Constraint]) -> str:
        """Return the node's resources that the constraints concern, as text: `56.0 GB RAM free`."""
        node, kinds = capacity.node, {constraint.kind for constraint in suffice}
        if node.status != "HEALTHY":
            return node.status
        if not node.gpu and all(request.instance.gpu == "required" for request in may):
            return "no GPU"
        facts = ["no GPU"] if "gpu" in kinds and not node.gpu else []
        if "ram" in kinds or ("gpu_memory" in kinds and node.unified):
            facts.append(f"{size(capacity.free_ram)} GB RAM free")
        if "gpu_memory" in kinds and node.gpu:
            facts.append(f"{size(capacity.free_gpu_memory)} GB GPU memory free")
        if Constraint("slots", (node.name,)) in suffice:
            facts.append(f"{max(0, node.max_instances - capacity.taken_slots)} of {node.max_instances} slots free")
        if "ports" in kinds:
            facts.append(f"{len(capacity.ports)} ports free")
        return ", ".join(facts)


def _classes(requests: Collection[Request]) -> list[list[str]]:
    """Group the ids of requests that are interchangeable as to whether a plan exists."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for request in requests:
        groups[_class(request)].append(request.instance.id)
    return list(groups.values())


def _class(request: Request) -> tuple[Any, ...]:
    """Return a key that is equal for interchangeable requests."""
    instance = request.instance
    demands = instance.gpu, request.ram, request.gpu_memory if instance.gpu != "none" else 0
    return *demands, request.pin, request.node_type, bool(request.alike), instance.id if request.apart else None


def _request(request: Request, held: Collection[Constraint]) -> Request:
    """Return the request with only those of its constraints that are in `held`."""
    instance, id = request.instance, request.instance.id

    def holds(kind: str) -> bool:
        return Constraint(kind, (id,)) in held

    return replace(
        request,
        instance=instance if instance.gpu != "required" or holds("gpu") else replace(instance, gpu="preferred"),
        ram=request.ram if holds("ram") else 0,
        gpu_memory=request.gpu_memory if holds("gpu_memory") else 0,
        pin=request.pin if holds("pin") else None,
        node_type=request.node_type if holds("node_type") else None,
        alike=request.alike if Constraint("same_type", ()) in held else frozenset(),
        apart=frozenset(
            other for other in request.apart if Constraint("anti_affinity", (min(id, other), max(id, other))) in held
        ),
    )


def _not_below_zero(node: Node) -> Node:
    """Return the node; if it is overcommitted, as a full one."""
    used = units(node.reserved_ram_gb) + units(node.allocated_ram_gb)
    gpu_used = units(node.allocated_gpu_memory_gb)
    gpu_memory = 0 if node.unified and not node.gpu_memory_gb else units(node.gpu_memory_gb)
    return replace(
        node,
        ram_gb=gb(max(units(node.ram_gb), used)),
        gpu_memory_gb=gb(max(gpu_memory, gpu_used) if gpu_memory else gpu_memory),
    )


def _roomy(node: Node, more: int) -> Node:
    """Return the node with `more` slots added."""
    return replace(node, max_instances=max(node.max_instances, node.current_instances + more))


def _most(node: Node, ports: Sequence[int], requests: Sequence[Request]) -> int | None:
    """Return the largest number of the requests that fit on the node, by search; None if it takes too many steps."""
    requests = sorted(requests, key=lambda request: (request.ram, request.gpu_memory))
    best = steps = 0

    def fits(chosen: Sequence[Request]) -> bool:
        capacity = Capacity(node, ports, {})
        for request in chosen:
            if not feasible(capacity, request):
                return False
            capacity.add(request)
        return True

    def choose(at: int, chosen: list[Request]) -> None:
        nonlocal best, steps
        best = max(best, len(chosen))
        steps += 1
        if at == len(requests) or len(chosen) + len(requests) - at <= best or steps > MOST_STEPS:
            return
        if fits([*chosen, requests[at]]):
            choose(at + 1, [*chosen, requests[at]])
        other = at + 1  # if one of a class is left out, leave out the rest of the class
        while other < len(requests) and _class(requests[other]) == _class(requests[at]):
            other += 1
        choose(other, chosen)

    choose(0, [])
    return None if steps > MOST_STEPS else best


class _Remedies:
    """The single changes that touch a conflict, and which of them make a plan possible."""

    def __init__(
        self, scenario: Scenario, conflict: Conflict, alike: Mapping[str, Sequence[str]], until: float
    ) -> None:
        self.scenario, self.conflict, self.alike, self.until = scenario, conflict, alike, until
        self.problem = scenario.problem()
        self.capacities = {capacity.node.name: capacity for capacity in self.problem.capacities()}
        self.requests = {request.instance.id: request for request in self.problem.requests}
        self.groups = self._node_groups()

    def found(self) -> tuple[list[Remedy], int]:
        """Return the changes that work, smallest first: settings, sizes by GB, slots, ports, leaving out an instance.

        Also return how many changes were not tried in the time.
        """
        remedies: list[tuple[int, int, Remedy]] = []
        untried = 0
        for rank, attempt in self._attempts():
            try:
                found = attempt()
            except OutOfTime:
                untried += 1
            else:
                remedies += [(rank, found[0], found[1])] if found else []
        return [remedy for _, _, remedy in sorted(remedies, key=lambda one: one[:2])], untried

    def _attempts(self) -> Iterator[tuple[int, Callable[[], Found]]]:
        """Yield (rank, attempt) for each change."""
        kinds = {constraint.kind for constraint in self.conflict.constraints}
        for name in self.groups:
            status = self.scenario.node(name).status
            if status in ("MAINTENANCE", "DEGRADED"):
                yield 0, partial(self._status, name)
        seen: set[tuple[str, tuple[str, ...]]] = set()
        ranks = {"pin": 1, "anti_affinity": 2, "same_type": 3, "node_type": 4, "gpu": 5, "ram": 6, "gpu_memory": 6}
        for constraint in self.conflict.constraints:
            kind, subject = constraint.kind, constraint.subject
            first = tuple(self.alike[id][0] for id in subject) if kind in OF_ONE else subject
            if kind in ranks and (kind, first) not in seen:
                seen.add((kind, first))
                yield ranks[kind], partial(getattr(self, f"_{kind}"), *subject)
        if kinds & {"ram", "gpu_memory"}:
            for name in self.groups:
                if self.scenario.node(name).status == "HEALTHY":
                    yield 6, partial(self._node_ram, name)
        tight = {constraint.subject[0] for constraint in self.conflict.constraints if constraint.kind == "slots"}
        for name, others in self.groups.items():
            if tight & {name, *others}:
                yield 7, partial(self._slots, name)
        if "ports" in kinds:
            yield 8, self._ports
        for id in dict.fromkeys(self.alike[id][0] for id in self.conflict.instances):
            yield 9, partial(self._without, id)

    def _works(self, scenario: Scenario) -> bool:
        return _has_plan(scenario.problem(), self.until)

    def _if(self, scenario: Scenario, change: dict[str, Any], says: str, alike: Sequence[str] = ()) -> Found:
        return (0, Remedy(change, says, tuple(alike))) if self._works(scenario) else None

    def _others(self, id: str) -> list[str]:
        return [other for other in self.alike[id] if other != id]

    def _status(self, name: str) -> Found:
        says = f"{name} HEALTHY again instead of {self.scenario.node(name).status}"
        changed = self.scenario.with_node(name, status="HEALTHY")
        return self._if(changed, {"change": "status", "node": name, "to": "HEALTHY"}, says, self.groups[name])

    def _pin(self, id: str) -> Found:
        says = f"no pin of {id} to {self.scenario.pins[id]}"
        return self._if(self.scenario.with_pin(id, None), {"change": "pin", "instance": id}, says, self._others(id))

    def _anti_affinity(self, one: str, other: str) -> Found:
        change = {"change": "anti_affinity", "instances": [one, other]}
        return self._if(self.scenario.together(one, other), change, f"no anti_affinity between {one} and {other}")

    def _same_type(self) -> Found:
        says = f"no same_type for {listed(self.scenario.same_type)}"
        return self._if(replace(self.scenario, same_type=()), {"change": "same_type"}, says)

    def _node_type(self, id: str) -> Found:
        says = f"{id} not bound to a {self.scenario.node_types[id]}"
        change = {"change": "node_type", "instance": id}
        return self._if(self.scenario.without_node_type(id), change, says, self._others(id))

    def _gpu(self, id: str) -> Found:
        change = {"change": "gpu", "instance": id, "to": "preferred"}
        says = f"{id} with gpu: preferred instead of required"
        return self._if(self.scenario.with_instance(id, gpu="preferred"), change, says, self._others(id))

    def _ram(self, id: str) -> Found:
        """Find the most RAM with which the instance fits: a node's free RAM less what others take there."""
        return self._less(id, "ram_gb", self.requests[id].ram, 1)

    def _gpu_memory(self, id: str) -> Found:
        return self._less(id, "gpu_memory_gb", self.requests[id].gpu_memory, 0)

    def _less(self, id: str, key: str, now: int, fewest: int) -> Found:
        """Find the largest amount below `now` that works; only multiples of the gcd of all other amounts can matter."""
        amounts = [
            amount for other in self.requests.values() if other.instance.id != id for amount in self._amounts(other)
        ]
        amounts += [
            amount for capacity in self.capacities.values() for amount in (capacity.free_ram, capacity.free_gpu_memory)
        ]
        step = gcd(*amounts) or now

        def too_much(steps: int) -> bool:
            return steps * step >= now or not self._works(self.scenario.with_instance(id, **{key: gb(steps * step)}))

        steps = least(fewest, -(-now // step), too_much) - 1
        if steps < fewest:
            return None
        less = now - steps * step
        change = {"change": key, "instance": id, "to_gb": gb(now - less), "less_gb": gb(less)}
        return less, Remedy(
            change, f"{id} with {key}: {size(now - less)} instead of {size(now)}", tuple(self._others(id))
        )

    def _amounts(self, request: Request) -> tuple[int, ...]:
        """Return all amounts that the request may take on any node."""
        return request.ram, request.gpu_memory, max(request.ram, request.gpu_memory)

    def _node_ram(self, name: str) -> Found:
        """Find the least additional RAM of this node: what some of the instances take together, less what is free."""
        capacity, node = self.capacities[name], self.scenario.node(name)
        takes = [capacity.needs(request)[0] for request in self.requests.values()]
        step, free = gcd(*takes), capacity.free_ram

        def more(steps: int) -> int:
            return units(node.ram_gb) + steps * step - free

        def works(steps: int) -> bool:
            return self._works(self.scenario.with_node(name, ram_gb=gb(more(steps))))

        fewest, most = max(1, free // step + 1), sum(takes) // step
        if fewest > most or more(most) > units(MAX_GB) or not works(most):
            return None
        ram = more(least(fewest, most, works))
        added = ram - units(node.ram_gb)
        change = {"change": "node_ram", "node": name, "to_gb": gb(ram), "more_gb": gb(added)}
        return added, Remedy(change, f"{name} with {size(added)} GB more RAM ({size(ram)})", tuple(self.groups[name]))

    def _slots(self, name: str) -> Found:
        slots = self.scenario.node(name).max_instances + 1
        change = {"change": "slots", "node": name, "to": slots}
        says = f"{name} with a slot more (max_instances: {slots})"
        return self._if(self.scenario.with_node(name, max_instances=slots), change, says, self.groups[name])

    def _ports(self) -> Found:
        first, last = self.scenario.port_range

        def works(end: int) -> bool:
            return self._works(replace(self.scenario, port_range=(first, end)))

        most = last + len(PORTS) * len(self.requests) + sum(len(node.used_ports) for node in self.scenario.nodes)
        if not works(most):
            return None
        end = least(last + 1, most, works)
        return end - last, Remedy({"change": "ports", "to": [first, end]}, f"peer_port_range from {first} to {end}")

    def _without(self, id: str) -> Found:
        return self._if(
            self.scenario.without(id), {"change": "without", "instance": id}, f"without {id}", self._others(id)
        )

    def _node_groups(self) -> dict[str, list[str]]:
        """Return {first of each group of interchangeable nodes: the other nodes of the group}."""
        pinned = set(self.scenario.pins.values())
        groups: dict[Any, list[str]] = defaultdict(list)
        for name, capacity in self.capacities.items():
            key = replace(capacity.node, name=name if name in pinned else "", cpu_cores=1, used_ports=frozenset())
            groups[key, len(capacity.ports)].append(name)
        return {first: others for first, *others in groups.values()}
