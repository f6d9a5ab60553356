"""A plan saved as a file with all that it depended on: applied unchanged, or rejected with what has changed since.

    {"format": "jarfleet plan", "version": 1, "sha256": of all the rest,
     "experiment": what names it, "pins": {...}, "depends_on": {...}, "plan": {...}}

`depends_on` holds only what decided the plan and what is planned: the experiment, the sha256 of each model, the code,
and the sizes, status and allocations of each node as `placement` saw them. Loads and addresses are not in it. These
are pure functions over plain data; the same input gives the same text, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fleet.base.differences import MISSING, change_text, differences
from fleet.base.errors import PlanChanged, PlanFileError
from fleet.record.manifest import canonical_sha256
from placement import Experiment, Node, Plan
from placement.adapters.experiment import SUFFIXES
from placement.constraints import rejections
from placement.problem import Problem

FORMAT, VERSION = "jarfleet plan", 1
MAX_BYTES = 256 * 2**20
MEASURED = ("ram_gb", "gpu_memory_gb")  # of a node, in GB; the kernel reports slightly different values after each boot
DIGITS = 2  # precision for comparing measured sizes: 0.01 GB
SAVE = "`ansible-playbook playbooks/plan.yml -e experiment=NAME -e plan_out=FILE` saves one"


@dataclass(frozen=True)
class SavedPlan:
    """The content of a plan file. `experiment` is a name in experiments/ or an absolute path."""

    experiment: str
    pins: Mapping[str, str]
    depends_on: Mapping[str, Any]
    plan: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON types: the file's content without format, version and checksum."""
        return asdict(self)

    @property
    def text(self) -> str:
        """The file's content."""
        body = {"format": FORMAT, "version": VERSION, **self.to_json()}
        document = {**body, "sha256": canonical_sha256(body)}
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_plan(path: Path) -> SavedPlan:
    """Read the plan file at `path`. Raise PlanFileError if it is not one, has a newer format, or was edited."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PlanFileError(f"{path}: larger than {MAX_BYTES // 2**20} MiB, so not a plan")
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise PlanFileError(f"{path}: cannot be read: {error.strerror}; {SAVE}") from error
    except (ValueError, RecursionError) as error:
        raise PlanFileError(f"{path}: not a plan: it is not JSON; {SAVE}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        known = isinstance(document, dict) and {"strategy", "assignments"} <= document.keys()
        what = "a bare plan, which does not say what it depended on" if known else "not a plan"
        raise PlanFileError(f"{path}: {what}; {SAVE}")
    version = document.get("version")
    if not isinstance(version, int) or version > VERSION:
        mend = f"this Jarfleet reads up to {VERSION}; update it, or plan anew"
        raise PlanFileError(f"{path}: a plan of format {version!r}, and {mend}")
    stated = document.pop("sha256", None)
    if stated != canonical_sha256(document):
        advice = "plan anew; to decide yourself, pin with -e placement=instance:node"
        raise PlanFileError("\n".join([f"{path}: edited since it was saved; {advice}", *_edits(document)]))
    try:
        return SavedPlan(document["experiment"], document["pins"], document["depends_on"], document["plan"])
    except KeyError as error:
        raise PlanFileError(f"{path}: not a plan: {error} is missing; {SAVE}") from error


def applied(
    saved: SavedPlan,
    now: Mapping[str, Any],
    experiment: Experiment,
    nodes: Sequence[Node],
    port_range: tuple[int, int],
    source: str,
) -> Plan:
    """Return the saved plan if everything that it depends on is still the same in `now`.

    Raise PlanChanged with everything that differs, or PlanFileError if the plan breaks a constraint.
    """
    try:
        if lines := changes(saved.depends_on, now):
            raise PlanChanged(source, lines)
        plan = Plan.from_json(saved.plan)
        wrong = broken(plan, experiment, nodes, saved.pins, port_range)
    except (AttributeError, KeyError, TypeError) as error:
        raise PlanFileError(f"{source}: not a plan: {error!r}; {SAVE}") from error
    if wrong:
        raise PlanFileError("\n".join([f"{source}: not a plan that can be; plan anew:", *wrong]))
    return plan


def reference(name: str, path: Path) -> str:
    """Return what names an experiment from any folder: its name as given, or the absolute path of its file."""
    return str(path.absolute()) if name.endswith(SUFFIXES) else name


def depends_on(
    experiment: Experiment,
    nodes: Iterable[Node],
    port_range: tuple[int, int],
    models: Mapping[str, str],
    code: str,
    command: Sequence[str],
) -> dict[str, Any]:
    """Return what a plan depends on, as JSON types. models: {instance: sha256}; code: the release's hash."""
    document = dict(experiment.raw)
    instances = {instance["id"]: dict(instance) for instance in document.pop("instances")}
    for one in experiment.instances:
        instances[one.id].setdefault("ram_gb", one.ram_gb)  # an estimate, which the file does not contain
    return {
        "experiment": {**document, "order": list(instances), "instances": instances},
        "models": dict(models),
        "code": {"hash": code, "command": list(command)},
        "ports": list(port_range),
        "nodes": {node.name: _node(node) for node in nodes},
    }


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the differences between two depends_on(), one line each: `rpi1: status was HEALTHY, is UNAVAILABLE`."""
    lines: list[str] = []
    old, new = before["nodes"], after["nodes"]
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            lines.append(f"{name}: was a node, is none any more")
        elif name not in old:
            lines.append(f"{name}: was no node, is one")
        elif "UNAVAILABLE" in (old[name]["status"], new[name]["status"]) and old[name] != new[name]:
            lines.append(
                change_text(f"{name}: status", old[name]["status"], new[name]["status"])
            )  # of an unavailable node, nothing but its status is known
        else:
            lines += [change_text(f"{name}: {key}", *pair) for key, *pair in differences(old[name], new[name])]
    lines += [change_text("ports", *pair) for _, *pair in differences({"": before["ports"]}, {"": after["ports"]})]
    lines += [
        change_text(f"experiment: {key}", *pair)
        for key, *pair in differences(before["experiment"], after["experiment"])
    ]
    lines += [
        change_text(f"model of {id}: sha256", *pair)
        for id, *pair in differences(before["models"], after["models"])
        if MISSING not in pair  # an instance that was added or removed, which is reported above
    ]
    return lines + [change_text(f"code: {key}", *pair) for key, *pair in differences(before["code"], after["code"])]


def broken(
    plan: Plan, experiment: Experiment, nodes: Iterable[Node], pins: Mapping[str, str], ports: tuple[int, int]
) -> list[str]:
    """Return what is wrong with a plan in itself, one line each: violated constraints, and ports that do not match.

    The checksum reveals an edited file; this finds one whose checksum was edited too, or a plan of an older search.
    """
    node_types = (plan.counterbalance or {}).get("node_types", {})
    problem = Problem(nodes, experiment.instances, pins, ports, experiment.design.same_type, node_types)
    capacities = {capacity.node.name: capacity for capacity in problem.capacities()}
    if set(plan.assignments) != {instance.id for instance in experiment.instances}:
        return ["assignments: not of the experiment's instances"]
    lines = []
    for request in problem.requests:
        id = request.instance.id
        capacity = capacities.get(plan.assignments[id])
        if capacity is None:
            lines.append(f"assignments.{id}: there is no node {plan.assignments[id]}")
            continue
        if refused := rejections(capacity, request):
            lines.append(f"assignments.{id}: {capacity.node.name} is refused: {'; '.join(refused)}")
        elif (given := dict(plan.ports.get(id, {}))) != (right := capacity.add(request)):
            lines.append(f"ports.{id}: are {given}, not {right}")
    return lines


def _node(node: Node) -> dict[str, Any]:
    """Return the properties of a node on which a plan depends."""
    if node.status == "UNAVAILABLE":
        return {"status": node.status}
    known = asdict(node)
    del known["name"]
    rounded = {key: round(known[key], DIGITS) for key in MEASURED}
    return {**known, **rounded, "used_ports": sorted(node.used_ports)}


def _edits(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the assignments that contradict the plan's own explanation."""
    plan = document.get("plan")
    assignments = plan.get("assignments") if isinstance(plan, dict) else None
    instances = plan.get("instances") if isinstance(plan, dict) else None
    if isinstance(assignments, dict) and isinstance(instances, dict):
        for id, node in assignments.items():
            chosen = instances[id].get("node") if isinstance(instances.get(id), dict) else None
            if chosen != node:
                yield f"  assignments.{id} is {node}, but the plan was made for {chosen}"
