"""Run again exactly what a run's signed manifest states, or name everything that has changed since.

Compared are: the experiment's text, the code's hash, each model's sha256, each node's build of llama.cpp, the plan with
its nodes and ports, and each instance's command, memory and seed. Its llama-server gets the recorded arguments, threads
among them, whatever this version of Jarfleet would give it, and the recorded share of the processor. Not compared are:
addresses, other instances on the nodes as long as the plan fits, and the versions of Ansible and Python on the
controller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from fleet.base.differences import change_text, differences
from fleet.base.errors import ReplayRejected
from fleet.intake.reader import Intake, Places
from fleet.intake.request import ReplayOf, Request
from fleet.intake.saved_plan import broken
from fleet.launch import recorded
from fleet.launch.specs import entries, launched_as
from fleet.observe.cluster import Cluster
from fleet.record.run_folder import Run
from fleet.record.signing import Keys
from placement import Experiment, Plan


def prepare(run: Run, keys: Keys, places: Places, *, check: bool = False) -> Intake:
    """Return the request that a run's record holds, which replaces the user's input.

    Verify its signature, and find or recreate its release and models. `replay` in the request holds what `hold`
    compares, and the differences that are visible without a node. check: stage and download nothing. Raise
    SigningError, BadInput, or ReplayRejected for a record that is incomplete or was changed.
    """
    found = recorded.read(run, keys, places, check=check)
    request = replace(
        found.request,
        replay=ReplayOf(
            run_id=run.run_id,
            plan=found.plan,
            llama_cpp=found.manifest["llama_cpp"],
            llama_cpp_builds=found.manifest["llama_cpp_builds"],
            instances=found.manifest["instances"],
            differences=found.differences,
        ),
    )
    return Intake(request, f"replay of {run.run_id}, signed by {found.signer}", warnings=found.warnings)


def nodes_of(request: Request, known: Sequence[str]) -> list[str]:
    """Return the nodes of the recorded plan that are in the inventory."""
    assignments = request.replay.plan["assignments"] if request.replay else {}
    return [node for node in dict.fromkeys(assignments.values()) if node in known]


def hold(request: Request, replay: ReplayOf, experiment: Experiment, cluster: Cluster) -> Plan:
    """Return the recorded plan if everything is as recorded. `experiment` has its sizes.

    Raise ReplayRejected with everything that differs.
    """
    plan = Plan.from_json(replay.plan)
    lines = [
        *replay.differences,
        *_builds(replay, cluster),
        *broken(plan, experiment, cluster.nodes, {}, cluster.ports),
        *_starts(request, replay, plan, experiment, cluster),
    ]
    if lines:
        raise ReplayRejected(replay.run_id, lines)
    return plan


def _builds(replay: ReplayOf, cluster: Cluster) -> Iterator[str]:
    """Yield the nodes that would get another llama.cpp, and why; the plan check reports nodes that do not answer."""
    for node, key in replay.llama_cpp.items():
        if not cluster.states.get(node):
            continue
        host = cluster.host(node)
        if not host.build_key:
            yield f"llama.cpp of {node}: which build it would get is not known: {host.build_problem}"
        elif host.build_key != key:
            pairs = [*differences(replay.llama_cpp_builds.get(key, {}), host.build_decides)]
            parts = [change_text(*pair) for pair in [("build", key, host.build_key), *pairs]]
            yield f"llama.cpp of {node}: {'; '.join(parts)}"


def _starts(request: Request, replay: ReplayOf, plan: Plan, experiment: Experiment, cluster: Cluster) -> Iterator[str]:
    """Yield the instances that would be started in another way than recorded."""
    if not set(plan.assignments.values()) <= set(cluster.names):
        return  # reported by the plan check
    for entry in entries(replay.run_id, request, experiment, plan, cluster):
        spec = entry.launch_spec
        if cluster.states.get(spec.description.node):
            before, after = replay.instances.get(spec.id, {}), launched_as(spec)
            yield from (change_text(f"{spec.id}: {key}", *pair) for key, *pair in differences(before, after))


def builds(cluster: Cluster) -> dict[str, Any]:
    """Return, for the manifest, the build of each node that has one, and what decides each build."""
    built = {name: host for name in cluster.names if (host := cluster.host(name)).build_key}
    return {
        "llama_cpp": {name: host.build_key for name, host in built.items()},
        "llama_cpp_builds": {host.build_key: dict(host.build_decides) for host in built.values()},
    }
