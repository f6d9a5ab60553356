"""Find the run that a command refers to by asking the nodes: only they know what runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from contract import names
from contract.description import InstanceRef
from contract.json_records import Record
from contract.node_state import InstanceState
from contract.statuses import HEALTHY, MAINTENANCE
from fleet.base.errors import RunError, SearchError
from fleet.observe.cluster import Cluster
from fleet.observe.tables import instance_table, node_table
from fleet.record.run_folder import LATEST, RECOVERED, Run, list_runs

CLOSE = 5  # number of runs that a hint names


@dataclass(frozen=True)
class Found(Record):
    """An instance of a run as an in-memory host of Ansible. epoch: which of its epochs is there."""

    name: str
    instance_ref: InstanceRef
    epoch: int = 1


@dataclass(frozen=True)
class FoundRun:
    """A run on the nodes. silent: nodes that did not answer, which may hold more of it."""

    run_id: str
    entries: Sequence[Found]
    silent: Sequence[str]
    table: str


@dataclass(frozen=True)
class Overview:
    """The state of the nodes and their instances. unwell: nodes that are neither HEALTHY nor in MAINTENANCE."""

    statuses: Mapping[str, str]
    unwell: Mapping[str, str]
    instances: Sequence[tuple[str, InstanceState]]
    table: str


def overview(cluster: Cluster, run_id: str, *, with_instances: bool) -> Overview:
    """Return the state of every node.

    with_instances: also return the instances that are alive and those of one run; all past ones would be too many.
    """
    found = instances_of(cluster)
    newest = newest_epochs(cluster)
    tables = [node_table(cluster.hostvars, cluster.states)]
    if with_instances:
        run_id = _resolved(run_id, found)
        shown = [(node, one) for node, one in found if one.alive or (one.run_id == run_id and (node, one) in newest)]
        tables.append(instance_table(shown))
        tables += [
            f"{one.id} of {one.run_id} on {node} is left from epoch {one.epoch}: it was resumed elsewhere since;"
            f" stop it: ansible-playbook playbooks/stop.yml -e run={one.run_id} -e instance={one.id} -e earlier=true"
            for node, one in shown
            if (node, one) not in newest
        ]
    tables += [f"{node}: its answer cannot be read: {fault}" for node, fault in cluster.state_faults.items()]
    tables += [
        f"{one.id} of {one.run_id} on {node}: {fault}" for node, one in found if one.alive for fault in one.faults
    ]
    unwell = {name: status for name, status in cluster.statuses.items() if status not in (HEALTHY, MAINTENANCE)}
    return Overview(cluster.statuses, unwell, found, "\n\n".join(tables))


def find_run(
    cluster: Cluster,
    run_id: str,
    instance: str = "",
    recorded: Sequence[Run] = (),
    *,
    acts: bool = False,
    earlier: bool = False,
) -> FoundRun:
    """Return the run of that id, or the newest for `latest`, or one instance of it. Raise SearchError with a hint.

    The newest is that of the nodes and of the controller's records together: a node that does not answer may be the
    only one to have it. acts: the caller will change it, so with such a node it must be named. earlier: what is left
    alive of an instance that was resumed elsewhere since, and nothing else.
    """
    newest = newest_epochs(cluster, recorded)
    found = newest
    if earlier:
        found = [(node, one) for node, one in instances_of(cluster) if one.alive and (node, one) not in newest]
    here = _of_cluster(recorded, cluster)
    if acts and run_id == LATEST and cluster.silent:
        known = ", ".join(_by_time([*here, *_runs(found)])[-CLOSE:]) or "none"
        raise SearchError(
            f"{', '.join(cluster.silent)} did not answer, so which run is the newest cannot be told;"
            f" name the run, -e run=<run_id>; the newest that are known: {known}"
        )
    resolved = _resolved(run_id, found, here)
    if resolved != run_id and resolved not in _runs(newest):
        raise SearchError(_not_there(cluster, resolved, found))
    run_id = resolved
    chosen = [(node, one) for node, one in found if one.run_id == run_id and instance in ("", one.id)]
    if not chosen and earlier:
        raise SearchError(f"nothing of {run_id} is alive in an earlier epoch on a node that answers")
    if not chosen:
        raise SearchError(_hint(cluster, run_id, instance, found))
    entries = [Found(names.host_name(one.id, node), ref_of(cluster, node, one), one.epoch) for node, one in chosen]
    return FoundRun(run_id, entries, cluster.silent, instance_table(chosen))


def _of_cluster(recorded: Iterable[Run], cluster: Cluster) -> list[str]:
    """Return the ids of the newest runs on nodes of this cluster: the records of other clusters lie in the same folder.

    recorded: the newest first.
    """
    nodes = set(cluster.names)
    of_these = (run.run_id for run in recorded if (planned := _nodes(run)) and planned <= nodes)
    return list(islice(of_these, CLOSE))


def _nodes(run: Run) -> set[str]:
    try:
        return set(run.plan.get("assignments", {}).values())
    except RunError:  # its record is damaged, which its own commands tell
        return set()


def recover(runs_dir: Path, run_id: str, places: Mapping[str, str], experiment: str) -> None:
    """Create a record for a run without one here: launched from another controller, or its record was lost.

    places: {instance: its node}. Raise RunError.
    """
    if run_id not in [run.run_id for run in list_runs(runs_dir)]:
        manifest = {"experiment": experiment, RECOVERED: True}
        Run.create(runs_dir, run_id, manifest, {"assignments": dict(places)})


def experiment_of(cluster: Cluster, run_id: str) -> str:
    """Return the experiment that a run belongs to, as its instances state it."""
    return next(
        (one.experiment for _, one in newest_epochs(cluster) if one.run_id == run_id and one.experiment), run_id
    )


def instances_of(cluster: Cluster) -> list[tuple[str, InstanceState]]:
    """Return (node, instance) of all instances, in each epoch of theirs that is on a node."""
    return [(name, one) for name, state in cluster.states.items() if state for one in state.instances]


def newest_epochs(cluster: Cluster, recorded: Iterable[Run] = ()) -> list[tuple[str, InstanceState]]:
    """Return (node, instance) of all instances; of one that was resumed elsewhere, where it was resumed last.

    recorded: runs whose records tell of epochs that no node which answers has; what is left of an earlier one is passed
    over.
    """
    found = instances_of(cluster)
    here = {one.run_id for _, one in found}
    newest = {(run.run_id, id): epoch for run in recorded if run.run_id in here for id, epoch in run.epochs.items()}
    for _, one in found:
        newest[one.run_id, one.id] = max(one.epoch, newest.get((one.run_id, one.id), 0))
    return [(name, one) for name, one in found if one.epoch == newest[one.run_id, one.id]]


def _runs(found: Sequence[tuple[str, InstanceState]]) -> list[str]:
    """Return the ids of the runs on the nodes, oldest first."""
    return _by_time(one.run_id for _, one in found)


def _by_time(run_ids: Iterable[str]) -> list[str]:
    """Return the ids, each once, oldest first: by their time, then their random part."""
    return sorted(set(run_ids), key=lambda run_id: run_id.rsplit("_", 2)[-2:])


def _resolved(run_id: str, found: Sequence[tuple[str, InstanceState]], here: Sequence[str] = ()) -> str:
    """Return the id of the newest run, on the nodes or in the records here, for `latest`."""
    runs = _by_time([*_runs(found), *here])
    return runs[-1] if run_id == LATEST and runs else run_id


def ref_of(cluster: Cluster, node: str, one: InstanceState) -> InstanceRef:
    """Return what names an instance on a node from now on."""
    host = cluster.hostvars[node]
    return InstanceRef(
        one.run_id, one.id, node, str(host["remote_work_dir"]), str(host["ssh_user"]), one.observed, one.ports
    )


def _not_there(cluster: Cluster, run_id: str, found: Sequence[tuple[str, InstanceState]]) -> str:
    """Return what to do when the newest run is on no node that answers."""
    why = f"{', '.join(cluster.silent)} did not answer" if cluster.silent else "it was not started, or was removed"
    others = ", ".join(_runs(found)[-CLOSE:]) or "none"
    return f"{run_id}, the newest run here, is on no node: {why}; name another, -e run=<run_id>; on the nodes: {others}"


def _hint(cluster: Cluster, run_id: str, instance: str, found: Sequence[tuple[str, InstanceState]]) -> str:
    """Return why nothing was found, and similar names."""
    why = f"; {', '.join(cluster.silent)} did not answer" if cluster.silent else ""
    ids = sorted({one.id for _, one in found if one.run_id == run_id})
    wanted, known, what = (instance, ids, f"instance of {run_id}") if ids else (run_id, _runs(found), "run")
    close = [name for name in known if name.startswith(wanted)] or difflib.get_close_matches(wanted, known, 3)
    close = close[-CLOSE:] or known[-CLOSE:]
    hint = f"did you mean {', '.join(close)}?" if close else "no run is on the nodes; run_experiment.yml makes one"
    return f"no {what} {wanted!r} on any node{why}: {hint}"
