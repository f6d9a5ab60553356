"""The record of a launch: created before anything starts, and completed with what started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from contract.events import Launched, LaunchFailed, Moves, Placed, Received, Resumed, SlotRestored
from contract.names import split_host_name
from contract.receipt import Receipt
from contract.slot import Restored
from fleet.base.errors import SigningError, Unsigned
from fleet.base.text_table import table
from fleet.intake.request import Request
from fleet.launch import key_store, slot_trials
from fleet.launch.recorded import recorded
from fleet.launch.replay import builds
from fleet.launch.shipments import Shipment
from fleet.launch.specs import Entry, entries
from fleet.observe.cluster import Cluster
from fleet.record.checkpoints import goes_on
from fleet.record.manifest import build_manifest
from fleet.record.memory_file import predict
from fleet.record.run_folder import Run, new_run_id
from fleet.record.signing import Keys, sign, update
from placement import Plan


@dataclass(frozen=True)
class Created:
    """A run that is about to be launched. In a check its folder was not created.

    shipments: what nodes are sent of its checkpoints. stays: instances that live on, and are told where others are.
    """

    run_id: str
    path: Path
    entries: Sequence[Entry]
    shipments: Sequence[Shipment] = ()
    warnings: Sequence[str] = ()
    stays: Sequence[Entry] = ()


@dataclass(frozen=True)
class Settled:
    """The outcome of a launch. failed: {instance's host: why it did not start}."""

    failed: Mapping[str, str]
    silent: Sequence[str] = ()  # those of them whose nodes did not answer
    run_id: str = ""
    warnings: Sequence[str] = field(default=())

    @property
    def rejection(self) -> str:
        """The closing lines of a launch that failed: why, for each instance that did not start; empty when all did."""
        reasons = [f"{name}: {(reason.splitlines() or [''])[0]}" for name, reason in self.failed.items()]
        if not reasons:
            return ""
        left = (
            f"{', '.join(self.silent)} may start all the same when the node answers again; end it then:"
            f" ansible-playbook playbooks/stop.yml -e run={self.run_id}"
        )
        return "\n".join([*reasons, "what had started is stopped again", *([left] if self.silent else [])])


def create(
    runs_dir: Path, request: Request, plan: Plan, cluster: Cluster, keys: Keys, ansible: str, *,
    leased: bool = False, check: bool = False,
) -> Created:  # fmt: skip
    """Create the run's folder with manifest and plan, and return what each node is given."""
    experiment = request.experiment
    run_id = new_run_id(experiment.name)
    made = entries(run_id, request, experiment, plan, cluster, leased=leased)
    if check:
        return Created(run_id, runs_dir / run_id, made)
    manifest = build_manifest(
        **recorded(request, made),
        llama_cpp={},
        inventory={node.name: repr(node) for node in cluster.nodes},
        plan=plan.to_json(),
        versions={"ansible": ansible},
        design={"seed": plan.seed, "counterbalance": plan.counterbalance},
    )
    run = Run.create(runs_dir, run_id, manifest, plan.to_json())
    key_store.make(run_id, [entry.launch_spec.description for entry in made])
    predict(run, experiment, request.memory)
    run.append(
        Placed(
            assignments=dict(plan.assignments),
            score=plan.score,
            strategy=plan.strategy,
            seed=plan.seed,
            counterbalance=plan.counterbalance,
            saved=request.saved.file if request.saved else "",
        )
    )
    return Created(run_id, run.path, made, warnings=_unsigned(run, partial(sign, run, keys)))


def settle(run: Run, outcomes: Mapping[str, Mapping[str, Any]], cluster: Cluster, keys: Keys) -> Settled:
    """Record the outcome of each instance's start, and sign the manifest anew.

    outcomes: {host: the result of its task}.
    """
    failed, silent = {}, []
    for name, outcome in outcomes.items():
        if outcome.get("unreachable") or outcome.get("failed") or "status" not in outcome:
            failed[name] = str(outcome.get("msg", "the node did not answer")).strip()
            silent += [name] if outcome.get("unreachable") else []
            run.append(LaunchFailed(name, failed[name]))
        else:
            run.append(Launched(name, str(outcome["status"])))
            if "receipt" in outcome:
                run.append(Received(name, Receipt.from_json(outcome["receipt"], f"{name}: receipt")))
            if "restored" in outcome:
                _tried(run, name, Restored.from_json(outcome["restored"], f"{name}: restored"), cluster)
    known, now = run.manifest, builds(cluster)  # of a run that is resumed: what it was launched with stays
    all_builds = {key: {**found, **(known.get(key) or {})} for key, found in now.items()}
    return Settled(failed, silent, run.run_id, _unsigned(run, partial(update, run, keys, **all_builds)))


def _tried(run: Run, name: str, came: Restored, cluster: Cluster) -> None:
    """Record, and remember for other runs, what came of restoring a slot."""
    run.append(SlotRestored(name, came))
    id, node = split_host_name(name)
    slot_trials.remember(cluster.host(node).build_key, str(run.manifest["models"][id]["sha256"]), came)


def detached_table(run: Run, options: str) -> str:
    """Return a text for a detached run: where it runs and the next commands, each with `options`, such as ` -i lab`."""
    placed = [event.assignments for _, event in run.events() if isinstance(event, Placed)]
    where = ", ".join(f"{id} on {node}" for id, node in placed[-1].items())
    rows = [
        (what, f"ansible-playbook playbooks/{verb}.yml{options} -e run={run.run_id}")
        for what, verb in (
            ("follow it", "logs"),
            ("see it", "status"),
            ("fetch its results", "fetch"),
            ("stop it", "stop"),
        )
    ]
    return f"{run.run_id} runs by itself: {where}\n\n{table(('to', 'type'), rows)}"


def paused_table(run: Run) -> str:
    """Return how long each instance that was moved just now did nothing, at most, and how it goes on; empty if none."""
    began: dict[str, datetime] = {}
    epochs: dict[str, int] = {}
    paused: dict[str, tuple[str, timedelta]] = {}
    events = run.events()
    for time, event in events:
        match event:
            case Moves():
                began, paused = dict.fromkeys(event.stopped, datetime.fromisoformat(time)), {}
            case Launched(instance=name):
                id, node = split_host_name(name)
                if id in began:
                    paused[id] = node, datetime.fromisoformat(time) - began[id]
            case Resumed():
                epochs[event.instance] = event.epoch
    how = goes_on(events)
    rows = [
        (id, node, f"{pause.total_seconds():.1f} s", how.get((id, epochs.get(id, 1)), ""))
        for id, (node, pause) in paused.items()
    ]
    return table(("instance", "now on", "paused", "goes on"), rows) if rows else ""


def _unsigned(run: Run, signing: Callable[[], Any]) -> list[str]:
    """Call `signing`; if it fails, return the reason as a warning, since a run may go on unsigned."""
    try:
        signing()
    except Unsigned:  # unsigned since its creation, which was reported then
        return []
    except SigningError as error:
        return [f"the manifest of {run.run_id} is not signed, and cannot be replayed before it is: {error}"]
    return []
