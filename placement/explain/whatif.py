"""Counterfactuals (why on this node and not another), found exactly by solving again; place() with explanations.

Sizes are GB = 2**30 bytes.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from placement.explain.conflict import SHARE, OutOfTime, conflict, has_plan, reasons
from placement.explain.scenario import Scenario
from placement.faults import BadInput, Fault, unknown
from placement.infeasibility import Conflict, Reasons, Remedy, listed
from placement.model import MAX_GB, PER_GB, Instance, Node, gb, units
from placement.plan import Infeasible, Plan, Undecided
from placement.problem import PORT_RANGE, PORTS, Capacity
from placement.solver.exact import TIME_LIMIT_S
from placement.strategies import place

GRID = PER_GB // 10  # amounts of additional RAM are multiples of 0.1 GB
MOST_SUMS = 20_000  # sums of the instances' RAM; beyond, every multiple of GRID is tried
LEAST_S = 1.0  # seconds for a plan with the instance pinned: less would leave all questions open, not only the last
EPSILON = 1e-6  # points: scores are sums of fractions as floats

Question = tuple[str, str | None]  # instance, node; None: every node


@dataclass(frozen=True)
class Counterfactual:
    """The best plan with an instance pinned to another node, and the changes that would move the instance there.

    feasible: whether there is such a plan; None if the time ended first. loss: by how many points it is worse than the
    given plan, at least and at most (equal: exact, negative: better); None if unknown. lifted: the instance's own pin,
    which is ignored here. moved: the other instances that this plan moves. moves_with: single changes with which the
    best plan puts the instance there. more_ram_gb: the least additional RAM of the node, in multiples of 0.1 GB, with
    which it does; None: no amount. answered: everything was computed in time; if false, moves_with and more_ram_gb may
    be incomplete.
    """

    feasible: bool | None
    score: float | None = None
    loss: tuple[float | None, float | None] = (None, None)
    decided_by: str = ""
    lifted: str | None = None
    moved: Mapping[str, str] | None = None
    conflict: Conflict | None = None
    moves_with: Sequence[str] = ()
    more_ram_gb: float | None = None
    answered: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return JSON data; `says` is the text for a reader."""
        return {
            "feasible": self.feasible,
            "score": self.score,
            "loss_at_least": self.loss[0],
            "loss_at_most": self.loss[1],
            "pin_lifted": self.lifted,
            "moved": dict(self.moved or {}),
            "conflict": self.conflict.to_json() if self.conflict else None,
            "moves_with": list(self.moves_with),
            "more_ram_gb": self.more_ram_gb,
            "answered": self.answered,
            "says": str(self),
        }

    def __str__(self) -> str:
        return f"{self._plan()}; {self._move()}"

    def _plan(self) -> str:
        """Return the effect on the plan as text: `the plan loses 10 points`."""
        if self.feasible is None:
            return "no plan was found in the time given, and none was proven impossible"
        if not self.feasible:
            return f"no plan exists: {self.conflict.brief() if self.conflict else 'proven'}"
        moved = listed(f"{id} to {node}" for id, node in (self.moved or {}).items())
        notes = [f"without its pin to {self.lifted}"] * bool(self.lifted) + [f"with {moved}"] * bool(moved)
        return " ".join([self._loss(), *(f"({note})" for note in notes)])

    def _loss(self) -> str:
        least, most = self.loss
        if most is None:
            return "not known"
        if least is not None and most - least < EPSILON:
            if abs(most) < EPSILON:
                return "equally good" + (f", decided by {self.decided_by}" if self.decided_by else "")
            return f"the plan {'loses' if most > 0 else 'gains'} {_shown(abs(most))} points"
        if abs(most) < EPSILON:
            return "equally good or better (not proven)"
        if most < 0:
            return f"the plan gains at least {_shown(-most)} points (not proven)"
        more = f"at least {_shown(least)} and " if least is not None and least > EPSILON else ""
        return f"the plan loses {more}at most {_shown(most)} points (not proven)"

    def _move(self) -> str:
        """Return what would move the instance as text: `would move there with 1.0 GB more RAM`."""
        ram = [] if self.more_ram_gb is None else [f"{self.more_ram_gb} GB more RAM"]
        changes = ", or ".join([*ram, *self.moves_with])
        if changes:
            return f"would move there with {changes}" + ("" if self.answered else " (the time was over for more)")
        if self.answered:
            return "nothing tried moves it there, no amount of RAM either"
        return "what would move it there was not found in the time given"


def parse_why(why: str | Sequence[str] | None, source: str = "why") -> list[Question]:
    """Return `"b"`, `"b:rpi2,c"`, or a list of such strings as [(instance, node or None)]. Raises BadInput."""
    texts = why if isinstance(why, list | tuple) else [why] if why else []
    words = [word.strip() for text in texts for word in str(text).split(",")]
    questions: list[Question] = []
    faults = []
    for word in filter(None, words):
        id, colon, node = (part.strip() for part in word.partition(":"))
        if not id or (colon and not node):
            faults.append(Fault(source, "", f"{word!r} is not instance or instance:node; give b, or b:rpi2"))
        questions.append((id, node or None))
    if faults:
        raise BadInput(faults)
    return list(dict.fromkeys(questions))


def why_faults(
    questions: Iterable[Question], ids: Collection[str], names: Collection[str], source: str = "why"
) -> list[Fault]:
    """Return a fault for each question about an instance or node that does not exist."""
    faults = []
    for id, name in questions:
        if id not in ids:
            faults.append(Fault(source, id, unknown("instance", id, ids)))
        if name is not None and name not in names:
            faults.append(Fault(source, f"{id}:{name}", unknown("node", name, names)))
    return faults


def place_and_explain(
    nodes: Iterable[Node],
    instances: Iterable[Instance],
    strategy: str = "optimal",
    pins: Mapping[str, str] | None = None,
    port_range: tuple[int, int] = PORT_RANGE,
    *,
    time_limit_s: float = TIME_LIMIT_S,
    same_type: Collection[str] = (),
    seed: int | None = None,
    node_types: Mapping[str, str] | None = None,
    why: Sequence[Question] = (),
) -> Plan:
    """Call place(), and add answers to `why` to the plan (Plan.counterfactuals) or the `reasons` to an Infeasible.

    The answers or the reasons take at most another time_limit_s.
    Raises as place() does, and BadInput for a question about an unknown instance or node.
    """
    scenario = Scenario(tuple(nodes), tuple(instances), pins or {}, port_range, tuple(same_type), node_types or {})
    names, ids = [node.name for node in scenario.nodes], [instance.id for instance in scenario.instances]
    if faults := why_faults(why, ids, names):
        raise BadInput(faults)
    try:
        plan = place(
            scenario.nodes,
            scenario.instances,
            strategy,
            pins,
            port_range,
            time_limit_s=time_limit_s,
            same_type=same_type,
            seed=seed,
            node_types=node_types,
        )
    except Undecided:
        raise
    except Infeasible as infeasible:
        infeasible.explain(_reasons(scenario, strategy, time_limit_s))
        raise
    answers = counterfactuals(scenario, plan, why, time_limit_s)
    answered = {id: {node: answer.to_json() for node, answer in nodes.items()} for id, nodes in answers.items()}
    return replace(plan, counterfactuals=answered or None)


def _reasons(scenario: Scenario, strategy: str, time_limit_s: float) -> Reasons | None:
    """Return why there is no plan. A failed greedy pass proves nothing: then the exact search is run first."""
    if strategy == "optimal":
        return reasons(scenario, time_limit_s)
    exists = has_plan(scenario, time_limit_s / 2)
    if exists:
        return Reasons(remedies=[Remedy({"change": "strategy", "to": "optimal"}, "strategy optimal: it finds a plan")])
    return None if exists is None else reasons(scenario, time_limit_s / 2)


def counterfactuals(
    scenario: Scenario, plan: Plan, questions: Iterable[Question], time_limit_s: float
) -> dict[str, dict[str, Counterfactual]]:
    """Return {instance: {node: answer}} for this plan of this scenario, within about time_limit_s for all together.

    Half of the time is for the plans with the instance pinned, a quarter for reasons of infeasibility and single
    changes, the rest for amounts of RAM. In each part, time that a question does not use is left to the later ones.
    """
    asked = _pairs(scenario, plan, questions)
    start = time.monotonic()
    found: dict[tuple[str, str], Counterfactual] = {}
    for seconds, (id, name) in _shares(asked, start + time_limit_s / 2, LEAST_S):
        found[id, name] = _pinned(scenario, plan, id, name, seconds)
    for seconds, (id, name) in _shares(asked, start + 3 * time_limit_s / 4):
        found[id, name] = _changed(scenario, plan, id, name, found[id, name], time.monotonic() + seconds)
    for seconds, (id, name) in _shares(asked, start + time_limit_s):
        found[id, name] = _richer(scenario, plan, id, name, found[id, name], time.monotonic() + seconds)
    answers: dict[str, dict[str, Counterfactual]] = {}
    for (id, name), answer in found.items():
        answers.setdefault(id, {})[name] = answer
    return answers


def _pairs(scenario: Scenario, plan: Plan, questions: Iterable[Question]) -> list[tuple[str, str]]:
    """Return each instance in question with each node in question, except the node that it is on."""
    every = list(plan.nodes)
    pairs = ((id, node) for id, name in questions for node in ([name] if name else every))
    return list(dict.fromkeys(pair for pair in pairs if plan.assignments[pair[0]] != pair[1]))


def _shares(
    pairs: Sequence[tuple[str, str]], until: float, least: float = 0.0
) -> Iterator[tuple[float, tuple[str, str]]]:
    """Yield (seconds, pair): an equal share of the time left, but at least `least` seconds while any are left."""
    for at, pair in enumerate(pairs):
        left = max(0.0, until - time.monotonic())
        yield min(left, max(least, left / (len(pairs) - at))), pair


def _pinned(scenario: Scenario, plan: Plan, id: str, name: str, time_limit_s: float) -> Counterfactual:
    """Compare the best plan with the instance pinned to this node with the given plan."""
    lifted = scenario.pins.get(id)
    try:
        there = scenario.with_pin(id, name).best(time_limit_s) if time_limit_s > 0 else None
    except Undecided:
        there = None
    except Infeasible:
        return Counterfactual(False, lifted=lifted)
    if there is None:
        return Counterfactual(None, lifted=lifted)
    most = plan.score - there.score
    if there.optimal:
        least: float | None = most
    else:
        least = None if there.bound is None else plan.score - there.bound
        if plan.optimal and lifted is None:
            least = max(0.0, least or 0.0)
    others = {
        other: node for other, node in there.assignments.items() if node != plan.assignments[other] and other != id
    }
    decided_by = "" if not plan.optimal else "the tie rules" if plan.seed is None else f"seed {plan.seed}"
    return Counterfactual(True, there.score, (least, most), decided_by, lifted, others)


def _changed(
    scenario: Scenario, plan: Plan, id: str, name: str, answer: Counterfactual, until: float
) -> Counterfactual:
    """Extend the answer by why the instance cannot be there, and by the changes other than RAM that would move it."""
    if answer.feasible is False and (left := until - time.monotonic()) > 0:
        answer = replace(answer, conflict=_conflict(scenario, id, name, left / 2))
    moves: list[str] = []
    free, lifting = scenario.with_pin(id, None), _lifting(scenario, plan, id)
    try:
        if lifting and _goes(free, id, name, until):
            return replace(answer, moves_with=[lifting])
        for says, changed in _changes(free, plan, id, name):
            if _goes(changed, id, name, until):
                moves.append(says)
    except OutOfTime:
        answer = replace(answer, answered=False)
    return replace(answer, moves_with=moves)


def _lifting(scenario: Scenario, plan: Plan, id: str) -> str | None:
    """Return what alone may keep the instance from its node in the best plan; None: nothing, the plan is the best."""
    if id in scenario.pins:
        return f"no pin to {scenario.pins[id]}"
    return None if plan.optimal and plan.seed is None else "strategy optimal, or another seed"


def _richer(scenario: Scenario, plan: Plan, id: str, name: str, answer: Counterfactual, until: float) -> Counterfactual:
    """Extend the answer by the least RAM that would move the instance there, unless it would go there anyway."""
    if answer.moves_with == [_lifting(scenario, plan, id)]:
        return answer
    try:
        ram = _more_ram(scenario.with_pin(id, None), id, name, until)
    except OutOfTime:
        return replace(answer, answered=False)
    return answer if ram is None else replace(answer, more_ram_gb=gb(ram))


def _conflict(scenario: Scenario, id: str, name: str, time_limit_s: float) -> Conflict:
    """Return why the instance cannot be on this node."""
    found = conflict(scenario.with_pin(id, name), time_limit_s)
    there = [
        replace(one, says=f"is on {name}") if (one.kind, one.subject) == ("pin", (id,)) else one
        for one in found.constraints
    ]
    return replace(found, constraints=tuple(there))


def _goes(scenario: Scenario, id: str, name: str, until: float) -> bool:
    """Whether the proven best plan puts the instance there. Raises OutOfTime if the search ends without an answer."""
    left = until - time.monotonic()
    if left <= 0:
        raise OutOfTime
    try:
        plan = scenario.best(left / SHARE)
    except Undecided as error:
        raise OutOfTime from error
    except Infeasible:
        return False
    if not plan.optimal:
        raise OutOfTime
    return plan.assignments[id] == name


def _changes(scenario: Scenario, plan: Plan, id: str, name: str) -> Iterator[tuple[str, Scenario]]:
    """Yield single changes other than RAM that can bring the instance there."""
    node, instance = scenario.node(name), scenario.instance(id)
    if node.status == "UNAVAILABLE":  # its resources are unknown
        return
    if node.status != "HEALTHY":
        yield f"{name} HEALTHY again", scenario.with_node(name, status="HEALTHY")
        return
    if id in scenario.node_types:
        yield f"{id} not bound to a {scenario.node_types[id]}", scenario.without_node_type(id)
    if instance.preferred_node != name:
        yield f"preferred_node: {name}", scenario.with_instance(id, preferred_node=name)
    for other in sorted(_apart(scenario, id)):
        if plan.assignments[other] == name:
            yield f"no anti_affinity to {other}", scenario.together(id, other)
    yield "a slot more", scenario.with_node(name, max_instances=node.max_instances + 1)
    if instance.gpu != "none" and not node.gpu:
        memory = f" of {instance.gpu_memory_gb} GB" if instance.gpu_memory_gb else ""
        card = {"gpu": True, "gpu_memory": "discrete", "gpu_memory_gb": instance.gpu_memory_gb}
        yield f"a GPU{memory}", scenario.with_node(name, **card)


def _apart(scenario: Scenario, id: str) -> Collection[str]:
    """Return the instances in anti-affinity with it, whichever of the two declares it."""
    return next(request.apart for request in scenario.problem().requests if request.instance.id == id)


def _more_ram(scenario: Scenario, id: str, name: str, until: float) -> int | None:
    """Return the least additional RAM of this node, in units, with which the best plan puts the instance there.

    The amount is a multiple of 0.1 GB; None: no amount does. A plan's score is not monotone in a node's RAM (ram_fit),
    so bisection is impossible. The score changes only where a step on this node begins to fit, or its ram_fit changes:
    where the RAM free before the step reaches what the instance takes or 10/7 of its ram_gb, or exceeds 10/3 of it.
    Those amounts are tried, smallest first, each rounded up to 0.1 GB. Between two of them no score changes, only the
    free RAM that the tie rules use.
    """
    node = scenario.node(name)
    held = max(node.ram_gb, node.reserved_ram_gb + node.allocated_ram_gb)  # a node can be overcommitted
    ample = min(MAX_GB, held + sum(max(one.ram_gb, one.gpu_memory_gb) for one in scenario.instances))
    if node.status != "HEALTHY" or not _possible(scenario.with_pin(id, name).with_node(name, ram_gb=ample), until):
        return None
    for steps in _amounts(scenario, name):
        ram = units(node.ram_gb) + steps * GRID
        if ram <= units(MAX_GB) and _goes(scenario.with_node(name, ram_gb=gb(ram)), id, name, until):
            return steps * GRID
    return None


def _possible(scenario: Scenario, until: float) -> bool:
    """Whether there is a plan. Raises OutOfTime if the search ends without an answer."""
    possible = has_plan(scenario, until - time.monotonic())
    if possible is None:
        raise OutOfTime
    return possible


def _amounts(scenario: Scenario, name: str) -> list[int]:
    """Return the tenths of a GB of additional RAM at which a plan's score can change, ascending."""
    problem = scenario.problem()
    capacity = next(capacity for capacity in problem.capacities() if capacity.node.name == name)
    slots = min(capacity.node.max_instances - capacity.taken_slots, len(capacity.ports) // len(PORTS))
    requests = [
        r for r in problem.requests if r.pin in (None, name) and (capacity.node.gpu or r.instance.gpu != "required")
    ]
    before: list[set[int]] = [{0}, *(set() for _ in range(slots))]  # by number of earlier instances: sums of their RAM
    amounts: set[int] = set()
    for request in requests:
        takes, _ = capacity.needs(request)
        steps = takes, -(-10 * request.ram // 7), 10 * request.ram // 3 + 1
        for sums in before[:slots]:
            amounts.update(taken + step - capacity.free_ram for taken in sums for step in steps)
        for count in reversed(range(slots)):
            before[count + 1] |= {taken + takes for taken in before[count]}
        if sum(map(len, before)) > MOST_SUMS:
            return _every_amount(capacity, [capacity.needs(one)[0] for one in requests], slots)
    return sorted({-(-amount // GRID) for amount in amounts if amount > 0})


def _every_amount(capacity: Capacity, takes: Sequence[int], slots: int) -> list[int]:
    """Return all tenths of a GB up to the point where nothing changes any more."""
    largest = sorted(takes)[-slots:]
    return list(range(1, (sum(largest) + 10 * largest[-1] // 3 + 1 - capacity.free_ram) // GRID + 2))


def _shown(points: float) -> str:
    """Return points as text: `65`, `13.33`."""
    return f"{round(points, 2):g}"
