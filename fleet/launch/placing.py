"""Return the plan that a request asks for: a new one, a saved one, or that of a run to be repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from contract.statuses import HEALTHY
from fleet.intake.request import Request
from fleet.intake.saved_plan import SavedPlan, applied, depends_on
from fleet.launch.replay import hold
from fleet.observe.cluster import Cluster
from placement import BadInput, Node, Plan, parse_why


@dataclass(frozen=True)
class Placed:
    """A plan, its file's content, and the instances on the nodes before and after it, one line per instance."""

    plan: Plan
    file: str
    before: str
    after: str


def place(request: Request, cluster: Cluster) -> Placed:
    """Return the plan for a request.

    Raise Infeasible or BadInput; for a saved or recorded plan PlanFileError, PlanChanged or ReplayRejected.
    """
    experiment = request.experiment
    cluster = cluster.degraded(request.without_packages).without_run(request.resumes.run_id if request.resumes else "")
    code, command = request.release.hash, request.command
    now = depends_on(experiment, cluster.nodes, cluster.ports, request.model_hashes, code, command)
    if request.replay:
        plan = hold(request, request.replay, experiment, cluster)
    elif request.saved:
        saved = SavedPlan(**request.saved.plan)
        plan = applied(saved, now, experiment, cluster.nodes, cluster.ports, request.saved.file)
    else:
        options = request.options
        if faults := options.faults(experiment.design, cluster.nodes, experiment.instances, request.pins):
            raise BadInput(faults)
        nodes = _as_home(request.resumes.stays, request.pins, cluster.nodes) if request.resumes else cluster.nodes
        plan = options.plan(experiment, nodes, request.pins, cluster.ports, parse_why(list(request.why)))
        if request.resumes:
            plan = plan.keeping(request.resumes.stays, nodes, cluster.ports)
    file = SavedPlan(request.reference or experiment.name, request.pins, now, plan.to_json()).text
    before = [
        f"{node}: {one.id} of {one.run_id}\n"
        for node, state in sorted(cluster.states.items())
        for one in (state.instances if state else ())
        if one.alive
    ]
    new = [f"{node}: {id} of {experiment.name} (new)\n" for id, node in plan.assignments.items()]
    return Placed(plan, file, "".join(before), "".join(sorted([*before, *new])))


def _as_home(stays: Iterable[str], pins: Mapping[str, str], nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes so that what lives on can stay where it is: also where nothing new may go."""
    here = Counter(pins[id] for id in stays)
    return [
        replace(node, status=HEALTHY, max_instances=node.current_instances + here[node.name])
        if here[node.name] and node.status != HEALTHY
        else node
        for node in nodes
    ]
