"""The result of a placement: assignments, scores, and the reasons for and against each node."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from placement.constraints import rejections
from placement.infeasibility import Conflict, Reasons, Remedy, grouped, listed
from placement.model import Node, gb, units
from placement.problem import PORTS, Capacity, Problem, Request
from placement.scoring import SCORERS, Points, components

MOST_REASONS = 10_000  # limit on the (instance, node) pairs whose reasons an Infeasible lists
WHY_LINES = 64  # limit on lines of reasons in a table; if there are more, nodes with the same reason share a line


@dataclass(frozen=True)
class Outcome:
    """The result of a search: assignments in any order, and an upper bound on the plan score if it knows one."""

    assignments: Mapping[str, str]
    bound: float | None = None
    optimal: bool = False


class Infeasible(Exception):
    """There is no plan: `rejections` lists for each rejected instance, node by node, the constraints that failed.

    Beyond MOST_REASONS pairs, the remaining instances are listed without reasons: {}.
    place_and_explain() adds the `conflict` that is the cause and the `remedies` that would make a plan possible.
    """

    reasons: Reasons | None = None

    def __init__(self, rejections: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        self.rejections = {id: {node: list(why) for node, why in nodes.items()} for id, nodes in rejections.items()}
        super().__init__(self._text())

    def _text(self) -> str:
        lines = [f"no plan: no node takes {', '.join(self.rejections)}"]
        explained = {id: nodes for id, nodes in self.rejections.items() if nodes}
        for id, nodes in explained.items():
            lines.append(f"{id}:")
            width = max(map(len, nodes))
            lines += [f"  {node:{width}}  {'; '.join(reasons)}" for node, reasons in nodes.items()]
        silent = len(self.rejections) - len(explained)
        if explained and silent:
            lines.append(f"{silent} more are refused; to see why node by node, place fewer instances at a time")
        elif silent:
            lines += [line for id in self.rejections for line in (f"{id}:", "  there are no nodes")]
        return "\n".join(lines)

    def explain(self, reasons: Reasons | None) -> None:
        """Add the reasons to the exception and its message."""
        self.reasons = reasons
        if reasons:
            self.args = (f"{self.args[0]}\n\n{reasons}",)

    @property
    def conflict(self) -> Conflict | None:
        """Instances and constraints that cannot hold together; None if no conflict was searched for."""
        return self.reasons.conflict if self.reasons else None

    @property
    def remedies(self) -> Sequence[Remedy]:
        """Changes each of which makes a plan possible."""
        return self.reasons.remedies if self.reasons else ()

    def to_json(self) -> dict[str, Any]:
        """Return `{"infeasible": true, "rejections": {instance: {node: [reasons]}}}`, with Reasons.to_json() added."""
        explained = self.reasons.to_json() if self.reasons else {}
        return {"infeasible": True, "rejections": self.rejections, **explained}


class Undecided(Infeasible):
    """The time limit ended the search: no plan was found, and none was proven impossible."""

    def __init__(self, rejections: Mapping[str, Mapping[str, Sequence[str]]], time_limit_s: float) -> None:
        self.time_limit_s = time_limit_s
        super().__init__(rejections)

    def _text(self) -> str:
        return (
            f"no plan was found in {self.time_limit_s:g} s, and none was proven impossible; give the search more time. "
            f"The greedy walk ended so:\n{super()._text()}"
        )


@dataclass(frozen=True)
class Verdict:
    """How a node was judged for an instance at its step: the score by components, or the reasons for rejection."""

    score: float | None = None
    components: Mapping[str, float] = field(default_factory=dict)
    rejected: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        if self.rejected:
            return {"rejected": list(self.rejected)}
        return {"score": self.score, "components": dict(self.components)}


@dataclass(frozen=True)
class Choice:
    """An instance's node, the score of its step, and every node's verdict."""

    node: str
    score: float
    nodes: Mapping[str, Verdict]


@dataclass(frozen=True)
class NodeUse:
    """A node after placement; `instances` and the allocations include other runs. Sizes in GB = 2**30 bytes."""

    status: str
    instances: int
    max_instances: int
    ram_gb: float
    reserved_ram_gb: float
    allocated_ram_gb: float
    gpu: bool
    gpu_memory: str
    gpu_memory_gb: float
    allocated_gpu_memory_gb: float
    placed: Sequence[str]  # instances of this plan, in the order of their steps


@dataclass(frozen=True)
class Plan:
    """Instance -> node with score, proof and explanation. A plan's score is the sum of its steps' scores."""

    strategy: str
    assignments: Mapping[str, str]
    score: float
    bound: float | None
    optimal: bool
    seed: int | None  # with which it was drawn among equally good plans; None: the first by the tie rules
    ports: Mapping[str, Mapping[str, int]]
    instances: Mapping[str, Choice]
    nodes: Mapping[str, NodeUse]
    counterbalance: Mapping[str, Any] | None = None  # of the experiment's design: Schedule.to_json()
    counterfactuals: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None  # Counterfactual.to_json(), when asked

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON data, in the format given in DESIGN."""
        return {
            "strategy": self.strategy,
            "assignments": dict(self.assignments),
            "score": self.score,
            "bound": self.bound,
            "optimal": self.optimal,
            "seed": self.seed,
            "counterbalance": self.counterbalance,
            "ports": {id: dict(ports) for id, ports in self.ports.items()},
            "instances": {
                id: {
                    "node": choice.node,
                    "score": choice.score,
                    "nodes": {name: verdict.to_json() for name, verdict in choice.nodes.items()},
                }
                for id, choice in self.instances.items()
            },
            "nodes": {name: asdict(use) | {"placed": list(use.placed)} for name, use in self.nodes.items()},
            **({"counterfactuals": self.counterfactuals} if self.counterfactuals else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Plan":
        """Rebuild the plan from the output of to_json()."""
        instances = {
            id: Choice(
                choice["node"], choice["score"], {name: Verdict(**verdict) for name, verdict in choice["nodes"].items()}
            )
            for id, choice in data["instances"].items()
        }
        nodes = {name: NodeUse(**use) for name, use in data["nodes"].items()}
        return cls(**{**data, "instances": instances, "nodes": nodes})

    def proof(self) -> str:
        """Return how good the plan is proven to be, as text."""
        if self.optimal:
            return "proven optimal"
        if self.bound is None:
            return "not proven best"
        gap = self.bound - self.score
        percent = f"{100 * gap / self.bound:.2g} %" if self.bound else "0 %"
        return f"not proven best: the bound is {_points(self.bound)}, a gap of {_points(gap)} points ({percent})"

    def table(self) -> str:
        """Return the plan as text: which instance goes where and why, then the resulting use of each node."""
        names = [scorer.__name__ for scorer in SCORERS]
        rows = [["instance", "node", "score", *names, "ports"]]
        for id, choice in self.instances.items():
            parts = choice.nodes[choice.node].components
            ports = " ".join(str(port) for port in self.ports[id].values())
            rows.append([id, choice.node, _points(choice.score), *(_points(parts[name]) for name in names), ports])
        uses = [["node", "status", "instances", "RAM allocated/usable GB", "placed"]]
        for name, use in self.nodes.items():
            usable = gb(max(0, units(use.ram_gb) - units(use.reserved_ram_gb)))
            slots, memory = f"{use.instances}/{use.max_instances}", f"{use.allocated_ram_gb:g}/{usable:g}"
            uses.append([name, use.status, slots, memory, listed(use.placed)])
        blocks = [
            "\n".join(
                [f"{self.strategy}: score {_points(self.score)}, {self.proof()}", *self._drawn(), *self._repeat()]
            ),
            _align(rows),
            _align(uses),
            self._why(),
            self._elsewhere(),
        ]
        return "\n\n".join(block for block in blocks if block)

    def _drawn(self) -> list[str]:
        """Return a line on the effect of the seed, if there is one."""
        if self.seed is None:
            return []
        if not self.optimal:
            return [f"seed {self.seed} had no effect: only among plans proven best is one drawn"]
        return [f"drawn with seed {self.seed} among the equally good plans"]

    def _repeat(self) -> list[str]:
        """Return a line on the repeat of a counterbalanced experiment, if it is one."""
        if not self.counterbalance:
            return []
        repeat, of = self.counterbalance["repeat"], self.counterbalance["of"]
        again = f", as {(repeat - 1) % of + 1}" if repeat > of else ""
        on = ", ".join(f"{mind} on a {node_type}" for mind, node_type in self.counterbalance["node_types"].items())
        return [f"repeat {repeat}{again} of {of}: {on}"]

    def _why(self) -> str:
        """Return the table of each instance's verdicts on the nodes that were not chosen."""
        rows = [(id, name, self._because(id, verdict)) for id, name, verdict in self._not_taken()]
        if len(rows) > WHY_LINES:
            shared = grouped(((id, because), name) for id, name, because in rows)
            rows = [(id, listed(nodes), because) for (id, because), nodes in shared]
        more = len(rows) - WHY_LINES
        table = _align([("instance", "not on", "because"), *rows[:WHY_LINES]]) if rows else ""
        return f"{table}\nand {more} more lines: JSON has all of them" if more > 0 else table

    def _not_taken(self) -> Iterator[tuple[str, str, Verdict]]:
        return (
            (id, name, verdict)
            for id, choice in self.instances.items()
            for name, verdict in choice.nodes.items()
            if name != choice.node
        )

    def _because(self, id: str, verdict: Verdict) -> str:
        """Return `scores 45, a tie`, or the constraints that failed."""
        if verdict.rejected:
            return "; ".join(verdict.rejected)
        return f"scores {_points(verdict.score)}" + (", a tie" if verdict.score == self.instances[id].score else "")

    def _elsewhere(self) -> str:
        """Return the answers to counterfactual questions: instance by instance, the effect of another node."""
        lines = []
        for id, answers in (self.counterfactuals or {}).items():
            lines.append(f"what if {id} were not on {self.assignments[id]} but on")
            explained = grouped((answer["says"], node) for node, answer in answers.items())
            lines += [f"  {listed(nodes)}: {says}" for says, nodes in explained]
        return "\n".join(lines)

    def keeping(
        self, kept: Mapping[str, Mapping[str, int]], nodes: Iterable[Node], port_range: tuple[int, int]
    ) -> "Plan":
        """Return the plan with the ports that some of its instances have already; the others get those that are free.

        kept: {instance: its ports}. There are enough: each instance has as many as in this plan.
        """
        taken = {node.name: set(node.used_ports) for node in nodes}
        for id, own in kept.items():
            taken[self.assignments[id]].update(own.values())
        ports: dict[str, Mapping[str, int]] = {}
        for id, node in self.assignments.items():
            free = (port for port in range(port_range[0], port_range[1] + 1) if port not in taken[node])
            ports[id] = {name: kept[id][name] for name in PORTS} if id in kept else dict(zip(PORTS, free, strict=False))
            taken[node].update(ports[id].values())
        return replace(self, ports=ports)

    def diff(self, before: "Plan | None" = None) -> str:
        """Return the changes from another plan, one line an instance; empty if there are none."""
        old = before.assignments if before else {}
        lines = [f"- {id} on {node}" for id, node in old.items() if id not in self.assignments]
        for id, node in self.assignments.items():
            if id not in old:
                lines.append(f"+ {id} on {node}")
            elif old[id] != node:
                lines.append(f"~ {id} from {old[id]} to {node}")
        return "\n".join(lines)


def record(problem: Problem, strategy: str, outcome: Outcome, explain: bool = True, seed: int | None = None) -> Plan:
    """Replay the assignments in the fixed order and record each step, so that every search is explained in one way."""
    capacities = {capacity.node.name: capacity for capacity in problem.capacities()}
    choices: dict[str, Choice] = {}
    ports: dict[str, dict[str, int]] = {}
    total: Points = 0
    for request in problem.requests:
        id = request.instance.id
        chosen = outcome.assignments[id]
        seen = capacities.values() if explain else [capacities[chosen]]
        judged = {capacity.node.name: _judged(capacity, request) for capacity in seen}
        verdict, points = judged[chosen]
        assert verdict.score is not None, f"{strategy} put {id} on {chosen}: {verdict.rejected}"  # noqa: S101 - a bug of the search
        total += points
        choices[id] = Choice(chosen, verdict.score, {name: verdict for name, (verdict, _) in judged.items()})
        ports[id] = capacities[chosen].add(request)
    ids = [instance.id for instance in problem.instances]
    return Plan(
        strategy=strategy,
        assignments={id: outcome.assignments[id] for id in ids},
        score=float(total),
        bound=outcome.bound,
        optimal=outcome.optimal,
        seed=seed,
        ports={id: ports[id] for id in ids},
        instances={id: choices[id] for id in ids},
        nodes={name: _use(capacity) for name, capacity in capacities.items()},
    )


def _judged(capacity: Capacity, request: Request) -> tuple[Verdict, Points]:
    """Return the verdict, and its score before rounding: 0 if the node is rejected."""
    rejected = rejections(capacity, request)
    if rejected:
        return Verdict(rejected=rejected), 0
    parts = components(capacity, request)
    points = sum(parts.values(), start=0)
    return Verdict(float(points), {name: float(part) for name, part in parts.items()}), points


def _use(capacity: Capacity) -> NodeUse:
    node, fresh = capacity.node, Capacity(capacity.node, (), {})
    return NodeUse(
        status=node.status,
        instances=capacity.taken_slots,
        max_instances=node.max_instances,
        ram_gb=node.ram_gb,
        reserved_ram_gb=node.reserved_ram_gb,
        allocated_ram_gb=gb(units(node.allocated_ram_gb) + fresh.free_ram - capacity.free_ram),
        gpu=node.gpu,
        gpu_memory=node.gpu_memory,
        gpu_memory_gb=node.gpu_memory_gb,
        allocated_gpu_memory_gb=gb(
            units(node.allocated_gpu_memory_gb) + fresh.free_gpu_memory - capacity.free_gpu_memory
        ),
        placed=list(capacity.ids),
    )


def _points(points: float | None) -> str:
    """Return points as text: `65`, `13.33`."""
    return "-" if points is None else f"{points:.2f}".rstrip("0").rstrip(".")


def _align(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as left-aligned columns, two spaces apart."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
