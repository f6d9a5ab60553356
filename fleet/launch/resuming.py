"""Launch a run again from its checkpoints, under its own id: each instance in a new epoch, maybe on another node.

An instance runs at most once. So a run is resumed only when all of its instances are known to have ended: by their
nodes, or, where a node does not answer, by what it said last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from contract import names
from contract.collected import EXIT_LOG
from contract.events import Collected, Launched, Placed, Resumed
from contract.exits import read_exits
from contract.json_records import Record
from contract.launch_spec import Checkpoint
from contract.node_state import InstanceState
from contract.statuses import COMPLETED, ENDED
from fleet.base.errors import ResumeRejected
from fleet.base.text_table import table
from fleet.intake.reader import Places
from fleet.intake.request import Request
from fleet.launch import key_store, recorded
from fleet.launch.launching import Created
from fleet.launch.shipments import shipments
from fleet.launch.specs import Origin, entries
from fleet.observe.cluster import Cluster
from fleet.observe.search import Found, instances_of, newest_epochs, ref_of
from fleet.record import checkpoints
from fleet.record.checkpoints import Kept
from fleet.record.run_folder import Run
from fleet.record.signing import Keys
from placement import Plan


@dataclass(frozen=True)
class Start(Record):
    """How an instance is started again. checkpoint: the name of what it is resumed from; empty: from the beginning."""

    epoch: int
    checkpoint: str = ""


@dataclass(frozen=True)
class Resumption:
    """What is resumed: {instance: how}. The request replaces the user's input."""

    request: Request
    starts: Mapping[str, Start]
    table: str
    warnings: tuple[str, ...]


def ended(run: Run, cluster: Cluster, gone: Collection[str] = (), *, stops: bool = False) -> list[Found]:
    """Return the run's instances where they are on nodes, to be brought home.

    gone: nodes of which it is known that nothing of the run acts there any more. stops: what is alive is stopped before
    anything else is done. Raise ResumeRejected unless all have ended, or will have then.
    """
    here = _states(run, cluster)
    alive = [one for one in _alive(run, cluster) if not stops or here[one[1].id] != one]
    stop = f"ansible-playbook playbooks/stop.yml -e run={run.run_id}"
    reasons = [f"{one.id} is {one.status} on {node}; stop the run first: {stop}" for node, one in alive]
    if reasons := [*_not_gone(cluster, gone), *reasons, *_unknown(run, cluster, here, gone)]:
        raise ResumeRejected(run.run_id, reasons)
    return [Found(names.host_name(id, node), ref_of(cluster, node, one)) for id, (node, one) in here.items()]


def prepare(
    run: Run, cluster: Cluster, keys: Keys, places: Places, pins: Mapping[str, str], until: str = "", *,
    check: bool = False,
) -> Resumption:  # fmt: skip
    """Return what it takes to resume the run from its newest checkpoints, or the newest ones up to the one named.

    pins: {instance: node}, beside those that it was launched with. Raise ResumeRejected, BadInput, SigningError.
    """
    known = checkpoints.names(run)
    if until and until not in known:
        among = ", ".join(known[-5:]) or "none; playbooks/checkpoint.yml takes one"
        raise ResumeRejected(run.run_id, [f"from={until}: no such checkpoint; there are {among}"])
    found = recorded.read(run, keys, places, signed=False, check=check)
    kept = {id: checkpoints.newest(run, id, until) for id in found.plan["assignments"]}
    reasons = [*found.differences]
    for one in kept.values():
        reasons += checkpoints.problems(run, one) if one else []
    if not until and all(one and one.status == COMPLETED for one in kept.values()):
        reasons.append("it is complete; -e from=<checkpoint> goes back to an earlier moment")
    if reasons:
        raise ResumeRejected(run.run_id, reasons)
    states, before = _states(run, cluster), checkpoints.epochs(run)
    starts = {
        id: Start(1 + max(before.get(id, 1), states[id][1].epoch if id in states else 1), one.checkpoint if one else "")
        for id, one in kept.items()
    }
    request = replace(found.request, pins={**found.request.pins, **pins}, resumes=run.run_id)
    # In a check nothing comes home, so its newest checkpoint is not yet what it will go on from.
    from_now = "what it has left on its node" if check and not until else ""
    rows = [(id, str(start.epoch), from_now or start.checkpoint or "the beginning") for id, start in starts.items()]
    shown = f"{run.run_id} is resumed\n\n{table(('instance', 'epoch', 'from'), rows)}"
    return Resumption(request, starts, shown, found.warnings)


def resume(
    run: Run, request: Request, plan: Plan, cluster: Cluster, starts: Mapping[str, Start],
    left: Mapping[str, Mapping[str, int]], *, leased: bool = False, check: bool = False,
) -> Created:  # fmt: skip
    """Prepare the run's folder for its next epochs, and return what each node is given.

    left: {instance: {table: rows that its checkpoint does not have}}.
    """
    kept = {id: checkpoints.named(run, id, start.checkpoint) for id, start in starts.items()}
    origins = {id: Origin(start.epoch, _checkpoint(run, id, kept[id])) for id, start in starts.items()}
    made = entries(run.run_id, request, request.experiment, plan, cluster, origins, leased=leased)
    sent = shipments(request, cluster, plan.assignments, {id: _files(run, one) for id, one in kept.items() if one})
    if check:
        return Created(run.run_id, run.path, made, sent)
    key_store.make(run.run_id, [entry.launch_spec.description for entry in made])
    for id, start in starts.items():
        home = checkpoints.newest(run, id)  # what came home just now, whatever it goes on from
        checkpoints.put_aside(run, id, home.epoch if home else start.epoch - 1)
        run.append(Resumed(id, start.epoch, plan.assignments[id], start.checkpoint, left.get(id, {})))
    run.append(Placed(assignments=dict(plan.assignments), score=plan.score, strategy=plan.strategy, seed=plan.seed))
    return Created(run.run_id, run.path, made, sent)


def _files(run: Run, kept: Kept) -> list[tuple[str, str]]:
    """Return (file, sha256) of what a node is sent of a checkpoint."""
    database, _, state = checkpoints.files(run, kept)
    return [(str(path), sha256) for path, sha256 in ((database, kept.database), (state, kept.state)) if sha256]


def _checkpoint(run: Run, id: str, kept: Kept | None) -> Checkpoint:
    """Return what the node needs of a checkpoint. Its exits are all that are known: a death is not taken back."""
    exits = read_exits(run.path / EXIT_LOG.name(id)).exits
    if kept and not exits:
        exits = read_exits(checkpoints.files(run, kept)[1]).exits
    return Checkpoint(kept.database, kept.state, exits) if kept else Checkpoint(exits=exits)


def _states(run: Run, cluster: Cluster) -> dict[str, tuple[str, InstanceState]]:
    """Return {instance: (node, its state)} of the run, in the newest epoch that is on a node."""
    return {one.id: (node, one) for node, one in newest_epochs(cluster) if one.run_id == run.run_id}


def _alive(run: Run, cluster: Cluster) -> list[tuple[str, InstanceState]]:
    """Return (node, its state) of what is alive of the run, in whatever epoch."""
    return [(node, one) for node, one in instances_of(cluster) if one.run_id == run.run_id and one.alive]


def _not_gone(cluster: Cluster, gone: Collection[str]) -> Iterator[str]:
    """Yield the nodes that cannot be gone."""
    for node in gone:
        if node not in cluster.names:
            yield f"gone={node}: no such node; there are {', '.join(cluster.names)}"
        elif node not in cluster.silent:
            yield f"gone={node}: it answers; stop the run there"


def _unknown(
    run: Run, cluster: Cluster, here: Mapping[str, tuple[str, InstanceState]], gone: Collection[str]
) -> Iterator[str]:
    """Yield the instances that may still run, on a node that does not answer."""
    places: dict[str, str] = dict(run.plan.get("assignments", {}))
    statuses: dict[str, str] = {}
    epochs: dict[str, int] = {}
    for _, event in run.events():
        match event:
            case Resumed(instance=id):
                places[id], epochs[id] = event.node, event.epoch
                statuses.pop(id, None)
            case Launched(instance=name):
                statuses.pop(names.split_host_name(name)[0], None)
            case Collected():
                statuses |= event.statuses
    for id, node in places.items():
        is_here = id in here and here[id][1].epoch >= epochs.get(id, 1)
        if not is_here and node in cluster.silent and node not in gone and statuses.get(id) not in ENDED:
            yield (
                f"{id} may still run on {node}, which does not answer: resume when it does, and it is stopped there;"
                f" only if you know that {node} is switched off, -e gone={node}"
            )
