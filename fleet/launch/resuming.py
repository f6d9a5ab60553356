"""Launch a run again from its checkpoints, under its own id: all of it, or some instances while the others live on.

Each that is started anew gets a new epoch, maybe on another node. An instance runs at most once, so this is done only
when what is started anew is known to have ended: by its node, or, where that does not answer, by what it said last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from contract import names
from contract.collected import EXIT_LOG
from contract.events import Collected, Launched, Moves, NodeLost, Placed, Resumed
from contract.exits import NODE_LOST, Exit, read_exits
from contract.json_records import Record
from contract.launch_spec import Checkpoint, LaunchSpec
from contract.names import WORKLOAD
from contract.node_state import InstanceState
from contract.statuses import ALIVE, COMPLETED, ENDED, FAILED, STOPPED
from fleet.base.errors import ResumeRejected
from fleet.base.text_table import table
from fleet.intake.reader import Places
from fleet.intake.request import Request, ResumeOf
from fleet.intake.workload_settings import Peers
from fleet.launch import key_store, recorded, slot_trials
from fleet.launch.launching import Created
from fleet.launch.shipments import checkpoint_shipments
from fleet.launch.specs import Entry, Origin, entries, settings_of_slots
from fleet.observe.cluster import Cluster
from fleet.observe.search import Found, instances_of, newest_epochs, ref_of
from fleet.record import checkpoints
from fleet.record.checkpoints import Kept
from fleet.record.run_folder import Run
from fleet.record.signing import Keys
from placement import Experiment, Instance, Plan


@dataclass(frozen=True)
class Wish:
    """What a person, or the control loop, wants resumed.

    instances: these, while the others live on; empty: all. else_all: all where these cannot go on alone. stops: what is
    alive of them is stopped first. gone: nodes of which it is known that nothing of the run acts there any more. until:
    the newest checkpoint that counts; empty: any. pins: {instance: node}, beside those of the launch.
    """

    instances: tuple[str, ...] = ()
    else_all: bool = False
    stops: bool = False
    gone: tuple[str, ...] = ()
    until: str = ""
    pins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Start(Record):
    """How an instance is started again. checkpoint: the name of what it is resumed from; empty: from the beginning.

    moved: it was stopped for that and for nothing else, so the life that it was in goes on.
    """

    epoch: int
    checkpoint: str = ""
    moved: bool = False


@dataclass(frozen=True)
class Resumption:
    """What is resumed. The request replaces the user's input. left: what is of it on nodes, to be brought home."""

    request: Request
    left: tuple[Found, ...]
    table: str
    warnings: tuple[str, ...]


def prepare(
    run: Run, cluster: Cluster, keys: Keys, places: Places, wish: Wish, is_leased: Callable[[Request], bool], *,
    check: bool = False,
) -> Resumption:  # fmt: skip
    """Return what it takes to resume the run.

    is_leased: whether what is launched now acts only while it has leases. Raise ResumeRejected, BadInput, SigningError.
    """
    known, all_ids = checkpoints.names(run), list(run.plan.get("assignments", {}))
    if unknown := [id for id in (*wish.instances, *wish.pins) if id not in all_ids]:
        among = ", ".join(all_ids)
        raise ResumeRejected(run.run_id, [f"{id}: the run has no such instance; it has {among}" for id in unknown])
    if wish.until and wish.until not in known:
        among = ", ".join(known[-5:]) or "none; playbooks/checkpoint.yml takes one"
        raise ResumeRejected(run.run_id, [f"from={wish.until}: no such checkpoint; there are {among}"])
    found = recorded.read(run, keys, places, signed=False, check=check)
    here, experiment = states(run, cluster), found.request.experiment
    needed = with_needed(run, here, experiment, wish.instances or all_ids)
    moves = [id for id in all_ids if id in needed]
    others = [one for one in experiment.instances if one.id not in moves]
    together = (
        alone_problems(run, here, cluster, Peers(experiment), others, wish, is_leased(found.request)) if others else []
    )
    if together and wish.else_all:
        statuses = _last_statuses(run, here)
        moves = [id for id in all_ids if id in moves or statuses.get(id) not in ENDED]
    elif together:
        raise ResumeRejected(run.run_id, together)
    ending = not_ended(run, cluster, here, moves, wish)
    if reasons := [*ending, *found.differences]:
        raise ResumeRejected(run.run_id, reasons)
    begun = starts(run, cluster, moves, wish.until, check=True)
    stays = {id: one for id, (_, one) in here.items() if id not in moves and one.alive}
    pins = {**found.request.pins, **{id: here[id][0] for id in stays}, **wish.pins}
    ports, epochs = {id: one.ports for id, one in stays.items()}, {id: start.epoch for id, start in begun.items()}
    resumes = ResumeOf(run.run_id, epochs, ports, wish.until)
    left = tuple(Found(names.host_name(id, here[id][0]), ref_of(cluster, *here[id])) for id in moves if id in here)
    # What is brought home first is not yet here, so it is not known where it will go on from.
    from_now = "" if wish.until else "what it has left on its node"
    rows = [
        (id, str(start.epoch), (from_now if id in here else "") or start.checkpoint or "the beginning")
        for id, start in begun.items()
    ]
    lines = [f"{run.run_id} is resumed", table(("instance", "epoch", "from"), rows)]
    lines += ["\n".join(["all of it moves:", *together])] if together else []
    lines += [f"lives on meanwhile: {', '.join(f'{id} on {here[id][0]}' for id in stays)}"] if stays else []
    request = replace(found.request, pins=pins, resumes=resumes)
    return Resumption(request, left, "\n\n".join(lines), found.warnings)


def still_due(run: Run, resumes: ResumeOf) -> None:
    """Raise ResumeRejected if somebody else has begun one of these epochs since that was decided."""
    now = run.epochs
    begun = [id for id, epoch in resumes.moves.items() if now.get(id, 1) >= epoch]
    if begun:
        raise ResumeRejected(run.run_id, [f"{id} was resumed by another playbook just now" for id in begun])


def starts(
    run: Run, cluster: Cluster, moves: Sequence[str], until: str = "", *, check: bool = False
) -> dict[str, Start]:
    """Return how each of these goes on: from its newest checkpoint, or the newest up to the one named.

    check: more may come home first. Raise ResumeRejected.
    """
    kept = {id: checkpoints.newest(run, id, until) for id in moves}
    reasons = [reason for one in kept.values() if one for reason in checkpoints.problems(run, one)]
    if not until and not check and all(one and one.status == COMPLETED for one in kept.values()):
        reasons.append("it is complete; -e from=<checkpoint> goes back to an earlier moment")
    if reasons:
        raise ResumeRejected(run.run_id, reasons)
    here, before, planned = states(run, cluster), run.epochs, set() if until else _stopped_to_move(run)
    found = {}
    for id, one in kept.items():
        epoch = 1 + max(before.get(id, 1), here[id][1].epoch if id in here else 1)
        found[id] = Start(epoch, one.checkpoint, id in planned and one.status == STOPPED) if one else Start(epoch)
    return found


def resume(
    run: Run, request: Request, resumes: ResumeOf, plan: Plan, cluster: Cluster, begun: Mapping[str, Start],
    left: Mapping[str, Mapping[str, int]], *, leased: bool = False, check: bool = False,
) -> Created:  # fmt: skip
    """Prepare the run's folder for the next epochs, and return what each node is given.

    left: {instance: {table: rows that its checkpoint does not have}}.
    """
    kept = {id: checkpoints.named(run, id, start.checkpoint) for id, start in begun.items()}
    here = states(run, cluster)
    origins = {id: Origin(here[id][1].epoch) for id in resumes.stays}
    origins |= {id: Origin(start.epoch, checkpoint_of(run, id, kept[id]), start.moved) for id, start in begun.items()}
    made = entries(run.run_id, request, request.experiment, plan, cluster, origins, leased=leased)
    stay = [entry for entry in made if entry.launch_spec.id in resumes.stays]
    started, without_slot = list[Entry](), dict[str, str]()
    for entry in made:
        if (id := entry.launch_spec.id) in begun:
            without_slot[id] = _without_slot(run, kept[id], entry.launch_spec, cluster)
            started.append(entry if without_slot[id] else _with_slot(entry, kept[id]))
    files = {id: _files(run, one, slot=not without_slot[id]) for id, one in kept.items() if one}
    sent = checkpoint_shipments(cluster, plan.assignments, files)
    if check:
        return Created(run.run_id, run.path, started, sent, stays=stay)
    if not resumes.stays:
        key_store.make(run.run_id, [entry.launch_spec.description for entry in made])
    for id, start in begun.items():
        home = checkpoints.newest(run, id)  # what came home just now, whatever it goes on from
        checkpoints.put_aside(run, id, home.epoch if home else start.epoch - 1)
        node, rows = plan.assignments[id], left.get(id, {})
        run.append(Resumed(id, start.epoch, node, start.checkpoint, rows, without_slot[id]))
    where = {**run.places, **{id: plan.assignments[id] for id in begun}}
    run.append(Placed(assignments=where, score=plan.score, strategy=plan.strategy, seed=plan.seed))
    return Created(run.run_id, run.path, started, sent, stays=stay)


def with_needed(
    run: Run, here: Mapping[str, tuple[str, InstanceState]], experiment: Experiment, ids: Collection[str]
) -> set[str]:
    """Return these, with their peers that are complete or have failed.

    One that goes back may need of a peer what it had from it; and a peer may have failed for want of just this one.
    """
    statuses = _last_statuses(run, here)
    peers, instances = Peers(experiment), {one.id: one for one in experiment.instances}
    found, looked = set(ids), set[str]()
    while ids := found - looked:
        looked |= ids
        found |= {peer for id in ids for peer in peers.of(instances[id]) if statuses.get(peer) in (COMPLETED, FAILED)}
    return found


def alone_problems(
    run: Run, here: Mapping[str, tuple[str, InstanceState]], cluster: Cluster, peers: Peers,
    others: Sequence[Instance], wish: Wish, leased: bool,
) -> list[str]:  # fmt: skip
    """Return why these others cannot live on while the rest goes on elsewhere; empty if they can."""
    found, places, statuses = [], run.places, _statuses(run)
    alive = [one.id for one in others if one.id in here and here[one.id][1].alive]
    if alive and not key_store.has(run.run_id):
        found.append(f"the keys of {', '.join(alive)} are not on this controller, so none could know the others")
    for one in others:
        node, state = here.get(one.id, ("", None))
        calls = {*peers.of(one), *one.observes} - {other.id for other in others}
        if one.id in wish.pins:
            found.append(f"{one.id} is not among the instances that move, so it stays where it is")
        if state is None and places[one.id] in cluster.silent and statuses.get(one.id) not in ENDED:
            found.append(f"{one.id} is on {places[one.id]}, which does not answer: it cannot be told of a new address")
        if state is None or not state.alive:
            continue
        if calls and one.network == "open":
            found.append(f"{one.id} has no private network, so it cannot be told the new address of {min(calls)}")
        if state.leased != leased:
            found.append(f"{one.id} on {node} was launched {'with' if state.leased else 'without'} the control loop")
    return found


def not_ended(
    run: Run, cluster: Cluster, here: Mapping[str, tuple[str, InstanceState]], moves: Sequence[str], wish: Wish
) -> list[str]:
    """Return why it is not known that nothing of these acts once they are stopped; empty if it is."""
    alive = [(node, one) for node, one in _alive(run, cluster) if one.id in moves]
    stopped = [one for one in alive if wish.stops and here.get(one[1].id) == one]
    stop = f"ansible-playbook playbooks/stop.yml -e run={run.run_id}"
    reasons = [
        f"{one.id} is {one.status} on {node}; stop the run first: {stop}"
        for node, one in alive
        if (node, one) not in stopped
    ]
    if stopped and run.is_watched:  # it would be taken for the end of the run
        reasons.append(
            "a command watches it where it is: end that with Ctrl-C, which leaves the run alone; or see control.yml"
        )
    return [*_not_gone(cluster, wish.gone), *reasons, *_unknown(run, cluster, here, moves, wish.gone)]


def _files(run: Run, kept: Kept, *, slot: bool) -> list[tuple[str, str]]:
    """Return (file, sha256) of what a node is sent of a checkpoint. slot: with that of its llama-server."""
    database, _, state = checkpoints.files(run, kept)
    found = [(database, kept.database), (state, kept.state)]
    found += [(checkpoints.slot_file(run, kept), kept.slot)] if slot else []
    return [(str(path), sha256) for path, sha256 in found if sha256]


def _without_slot(run: Run, kept: Kept | None, spec: LaunchSpec, cluster: Cluster) -> str:
    """Return why an instance is not given the slot that its llama-server had; empty if it is."""
    instance = spec.description
    host = cluster.host(instance.node)
    if kept is None:
        return "it starts from the beginning"
    if not instance.slot_bytes:
        return slot_trials.problem(host.build_key, kept.model) or "its slot is not kept"
    settings = settings_of_slots(host, uses_gpu=instance.resources.uses_gpu)
    return checkpoints.slot_problem(run, kept, host.build_key, settings)


def _with_slot(entry: Entry, kept: Kept | None) -> Entry:
    spec = entry.launch_spec
    if kept is None or spec.checkpoint is None:
        return entry
    return replace(entry, launch_spec=replace(spec, checkpoint=replace(spec.checkpoint, slot=kept.slot)))


def checkpoint_of(run: Run, id: str, kept: Kept | None) -> Checkpoint:
    """Return what the node needs of a checkpoint. Its exits are all that are known: a death is not taken back."""
    exits = read_exits(run.path / EXIT_LOG.name(id)).exits
    if kept and not exits:
        exits = read_exits(checkpoints.files(run, kept)[1]).exits
    home = checkpoints.newest(run, id)
    if home and home.status in ALIVE:  # it was never seen to have ended
        exits = (*exits, _lost_exit(run, run.places[id]))
    return Checkpoint(kept.database, kept.state, exits=exits) if kept else Checkpoint(exits=exits)


def _lost_exit(run: Run, node: str) -> Exit:
    """Return how a workload ended that was lost with its node."""
    times = [
        event.last_heard or time for time, event in run.events() if isinstance(event, NodeLost) and event.node == node
    ]
    return Exit(WORKLOAD, time=times[-1] if times else None, cause=NODE_LOST, node=node)


def states(run: Run, cluster: Cluster) -> dict[str, tuple[str, InstanceState]]:
    """Return {instance: (node, its state)} of the run, in the newest epoch that is on a node."""
    return {one.id: (node, one) for node, one in newest_epochs(cluster, [run]) if one.run_id == run.run_id}


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


def _statuses(run: Run) -> dict[str, str]:
    """Return {instance: its status}, as it was brought home last, of those that were not started again since."""
    statuses: dict[str, str] = {}
    for _, event in run.events():
        match event:
            case Resumed(instance=id):
                statuses.pop(id, None)
            case Launched(instance=name):
                statuses.pop(names.split_host_name(name)[0], None)
            case Collected():
                statuses |= event.statuses
    return statuses


def _stopped_to_move(run: Run) -> set[str]:
    """Return the instances that were stopped to be started elsewhere, and have not been yet."""
    found: set[str] = set()
    for _, event in run.events():
        match event:
            case Moves():
                found |= set(event.stopped)
            case Resumed(instance=id):
                found.discard(id)
    return found


def _last_statuses(run: Run, here: Mapping[str, tuple[str, InstanceState]]) -> dict[str, str]:
    """Return {instance: its status}, as its node says, or else as it was brought home last."""
    return _statuses(run) | {id: one.status for id, (_, one) in here.items()}


def _unknown(
    run: Run, cluster: Cluster, here: Mapping[str, tuple[str, InstanceState]], moves: Sequence[str],
    gone: Collection[str],
) -> Iterator[str]:  # fmt: skip
    """Yield those of these instances that may still run, on a node that does not answer."""
    statuses, epochs, places = _statuses(run), run.epochs, run.places
    for id in moves:
        node = places[id]
        is_here = id in here and here[id][1].epoch >= epochs.get(id, 1)
        if not is_here and node in cluster.silent and node not in gone and statuses.get(id) not in ENDED:
            yield (
                f"{id} may still run on {node}, which does not answer: resume when it does, and it is stopped there;"
                f" only if you know that {node} is switched off, -e gone={node}"
            )
