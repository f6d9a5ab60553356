"""The control loop: observe the nodes, decide (`reconcile`), act. One process a cluster.

Everything that it must remember is in its store before it acts; what runs is what the nodes say. It may be killed at
any moment and started again.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from contract import ContractError
from contract.attention import Renewal, Report
from contract.description import InstanceRef
from contract.events import Event, NodeLost, NodeStatusChanged, Waits
from contract.leases import Lease
from contract.node_state import InstanceState
from contract.statuses import ENDED, HEALTHY, RUNNING, UNAVAILABLE
from fleet.base.errors import FleetError, RunError
from fleet.control import model
from fleet.control.cluster_events import ClusterEvents
from fleet.control.desired_store import NOT_YET, DesiredStore, LookedAfter, Stored
from fleet.control.loop_file import LoopFile
from fleet.control.model import Adopt, Desired, Finish, Key, Observed, Renew, Seen, Start, Stop, Wait, Wanted
from fleet.control.node_link import NodeLink
from fleet.control.playbooks import Playbooks, is_running
from fleet.control.reconcile import admitted, reconcile, recorded, taken_up
from fleet.observe import service_words
from fleet.observe.changes import RunOnNode
from fleet.record.run_folder import Run

TICK_SECONDS = 1.0
AGAIN_SECONDS = 15.0  # after an act has failed
PERSONS_SECONDS = 60.0  # in which a person's own stop.yml ends what it is about

log = logging.getLogger("control")


class Loop:
    """The loop of one cluster."""

    def __init__(self, file: LoopFile, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds of a clock that is never set. Raise ControlError."""
        self._clock = clock
        self.file, self.settings = file, file.settings
        self.store, self.playbooks = DesiredStore(folder), Playbooks(file, folder)
        self.events = ClusterEvents(folder, file.hook)
        self.links = {name: NodeLink(name, file, self._heard) for name in file.nodes}
        self.reports: dict[str, tuple[float, Report]] = {}
        self._safe: dict[
            Key, tuple[int, float]
        ] = {}  # {instance: (epoch, from when on nothing lets one before it act)}
        self._seen: dict[tuple[str, str], RunOnNode] = {}  # {(run, node): what was seen there}
        self._statuses: dict[str, str] = {}  # of nodes, as told last
        self._words: Mapping[str, str] = {}  # what a person said of nodes
        self._jobs: dict[str, asyncio.Task[None]] = {}  # {run: what is done for it}
        self._not_before: dict[str, float] = {}  # {run: when an act that failed is tried again}
        self._problems: dict[str, str] = {}  # {run: why it could not be moved}
        self._checkpointed: dict[str, float] = {}
        self._stopping: dict[Key, float] = {}  # {instance: since when a person wants it stopped}
        self._news, self._started = asyncio.Event(), clock()

    async def run(self) -> None:
        """Go on until cancelled."""
        opened = [asyncio.create_task(link.keep_open()) for link in self.links.values()]
        try:
            while True:
                self._news.clear()
                try:
                    self.tick(self._clock())
                except (sqlite3.Error, OSError, ContractError, FleetError) as error:
                    log.error("nothing can be decided now: %s", error)  # as when the disk is full
                try:
                    await asyncio.wait_for(self._news.wait(), TICK_SECONDS)
                except TimeoutError:
                    continue
        finally:
            for task in (*opened, *self._jobs.values()):
                task.cancel()
            await asyncio.gather(*opened, *self._jobs.values(), return_exceptions=True)

    # observe

    def _heard(self, node: str, report: Report) -> None:
        self.reports[node] = (self._clock(), report)
        for line in report.refused:
            log.warning("%s: %s", node, line)
        self._news.set()

    def observed(self, stored: Stored) -> Observed:
        """Return what the nodes have said, as the decisions take it."""
        taken = frozenset(name for name, link in self.links.items() if link.is_taken)
        return Observed(tuple(self.file.nodes), {node: self._report(node, stored) for node in self.reports}, taken)

    def _report(self, node: str, stored: Stored) -> model.Report:
        at, said = self.reports[node]
        seen = {
            Key(one.run_id, one.id): Seen(
                one.epoch,
                said.clock + one.lease_seconds if one.lease_seconds else None,
                one.status if one.status in ENDED else "",
            )
            for one in said.state.instances
            if Key(one.run_id, one.id) in stored.instances
        }
        fit = said.state.status == HEALTHY and not self.file.nodes[node].maintenance and not self._words.get(node)
        return model.Report(at, said.boot, said.clock, seen, fit)

    # decide

    def tick(self, now: float) -> None:
        """Decide and act once."""
        stored, words = self.store.read(), service_words.read(self.file.cluster)
        if words != self._words:  # what could not be done before may be possible, or not wanted any more
            self._words = words
            self._problems.clear()
            self._not_before.clear()
        desired, observed = self._desired(stored, now), self.observed(stored)
        self._tell(stored, now)
        links = {name: self._link_problem(name, now) for name in self.links}
        if links != stored.links:
            self.store.links(links)
        actions = reconcile(desired, observed, self.settings, _any, now)
        done = [one for one in actions if isinstance(one, Renew | Finish | Adopt) and self._may(one, stored)]
        after = recorded(desired, done, observed, self.settings)
        self.store.decided(desired, after)
        for key, wanted in after.instances.items():
            self._safe[key] = (wanted.epoch, wanted.safe_at)
        for one in done:
            if isinstance(one, Renew):
                self._renew(one)
        self._act(stored, desired, [one for one in actions if one not in done], now)

    def _desired(self, stored: Stored, now: float) -> Desired:
        """Return the desired state. A controller that starts knows nothing of what was sent before, nor of a launch."""
        instances = dict(taken_up(Desired(stored.instances), self.settings, now).instances)
        for key, (epoch, safe_at) in self._safe.items():
            if key in instances and instances[key].epoch == epoch:
                instances[key] = replace(instances[key], safe_at=safe_at)
        self._safe = {key: value for key, value in self._safe.items() if key in instances}
        drained = (node for node, word in self._words.items() if word == service_words.DRAINED)
        desired = Desired(instances, frozenset(drained), frozenset(stored.strangers))
        answered = [node for node, term in stored.strangers.items() if term == self.file.term and node in self.reports]
        for node in answered:
            desired = admitted(desired, node, self.settings, now)
        if answered:
            self.store.admitted(answered, self.file.term)
            self._safe |= {key: (one.epoch, one.safe_at) for key, one in desired.instances.items()}
        return desired

    def _may(self, action: Renew | Finish | Adopt, stored: Stored) -> bool:
        """Whether it is done at once: while a run is started or moved, what is there of it is let act, and no more."""
        run = stored.runs[action.key.run_id]
        return isinstance(action, Renew) or (run.launched and not run.acting and not self._is_busy(run))

    def _is_busy(self, run: LookedAfter) -> bool:
        """Whether something is done for a run: by this loop, by a playbook of one that was killed, or by a person's."""
        return run.run_id in self._jobs or self.playbooks.is_busy(run.run_id) or is_running(run.starter)

    # act

    def _renew(self, action: Renew) -> None:
        one = next(one for one in self.reports[action.node][1].state.instances if _key(one) == action.key)
        node = self.file.nodes[action.node]
        ref = InstanceRef(one.run_id, one.id, action.node, node.work_dir, node.owner, one.observed, one.ports)
        self.links[action.node].renew(Renewal(ref, Lease(action.boot, action.until, action.epoch)))

    def _act(self, stored: Stored, desired: Desired, actions: Sequence[model.Action], now: float) -> None:
        waits: dict[Key, str] = {}
        for run in stored.runs.values():
            mine = [one for one in actions if one.key.run_id == run.run_id]
            wanted = {key: one for key, one in desired.instances.items() if key.run_id == run.run_id}
            if run.launched:
                waits |= {one.key: one.reason for one in mine if isinstance(one, Wait)}
            busy = self._is_busy(run)
            if not busy and (run.acting or run.starter):  # it was cut off: decided anew, next time
                if all(one.epoch == 1 for one in wanted.values()) and not run.launched:
                    self._job(run, "cleans up a launch that was cut off", self._play("stop", run))
                else:
                    self.store.cut_off(run.run_id)
                continue
            if busy or not run.launched or now < self._not_before.get(run.run_id, 0.0):
                if problem := self._problems.get(run.run_id):
                    waits |= dict.fromkeys(_to_move(mine), problem)
                continue
            self._begin(run, wanted, mine, now)
        told = {Key(run.run_id, id): why for run in stored.runs.values() for id, why in run.waits.items()}
        if waits != told:
            self.store.waits(waits)
            for key in waits.keys() - told.keys():
                self._append(stored.runs[key.run_id], Waits(key.id, waits[key]))

    def _begin(
        self, run: LookedAfter, wanted: Mapping[Key, Wanted], actions: Sequence[model.Action], now: float
    ) -> None:
        """Begin the one thing that is to be done for a run now, if any."""
        keys = _to_move(actions)
        left = [one for one in actions if isinstance(one, Stop) and one.epoch < wanted[one.key].epoch]
        asked = [one for one in actions if isinstance(one, Stop) and one not in left]
        for key in [key for key in self._stopping if key.run_id == run.run_id and not wanted[key].stopped]:
            del self._stopping[key]
        since = [self._stopping.setdefault(one.key, now) for one in asked if wanted[one.key].stopped]
        if all(one.outcome for one in wanted.values()):
            self._job(run, "collects", self._collect(run))
        elif left:
            self._job(run, "cleans up", self._play("stop", run, earlier="true"))
        elif keys:
            silence = partial(self._is_silent, now=now)
            silent = {key for key, one in wanted.items() if silence(one.node)}
            # What lives on is told where the others are now, so none of it may be out of reach.
            if all(key in keys or wanted[key].outcome for key in silent):
                gone, unasked = {wanted[key].node for key in silent}, filter(silence, self.file.nodes)
                self._job(run, "moves", self._move(run, sorted(key.id for key in keys), sorted(gone), list(unasked)))
        elif any(now - began > PERSONS_SECONDS for began in since):
            self._job(run, "stops", self._play("stop", run))
        elif self._needs_checkpoint(run, wanted, now):
            self._checkpointed[run.run_id] = now
            self._job(run, "checkpoints", self._play("checkpoint", run))

    def _link_problem(self, node: str, now: float) -> str:
        """Return why a node is not heard of; empty where it is."""
        return (self.links[node].problem or NOT_YET) if self._is_silent(node, now) else ""

    def _is_silent(self, node: str, now: float) -> bool:
        return node not in self.reports or now - self.reports[node][0] >= self.settings.lost_after

    def _needs_checkpoint(self, run: LookedAfter, wanted: Mapping[Key, Wanted], now: float) -> bool:
        """Whether the last one is old, or unknown to this process; while all its nodes answer, so that it is whole."""
        old = now - self._checkpointed.get(run.run_id, float("-inf")) >= self.file.checkpoint_seconds
        return old and all(
            one.outcome or (not self._is_silent(one.node, now) and self._status(key, one) == RUNNING)
            for key, one in wanted.items()
        )

    def _status(self, key: Key, wanted: Wanted) -> str:
        states = self.reports[wanted.node][1].state.instances if wanted.node in self.reports else ()
        return next((one.status for one in states if _key(one) == key and one.epoch == wanted.epoch), "")

    def _job(self, run: LookedAfter, what: str, work: Coroutine[None, None, str]) -> None:
        async def job() -> None:
            try:
                problem = await work
            finally:
                self._jobs.pop(run.run_id, None)
                self._news.set()
            if problem:
                log.warning("%s: %s: %s", run.run_id, what, problem)
                self._not_before[run.run_id] = self._clock() + AGAIN_SECONDS
            else:
                log.info("%s: %s: done", run.run_id, what)

        log.info("%s: %s", run.run_id, what)
        self._jobs[run.run_id] = asyncio.create_task(job())

    async def _play(self, verb: str, run: LookedAfter, **variables: str) -> str:
        return await self.playbooks.play(verb, run.run_id, run.runs_dir, **variables)

    async def _move(self, run: LookedAfter, ids: Sequence[str], gone: Collection[str], unasked: Collection[str]) -> str:
        """Start these instances again in the next epoch, on the nodes that there are, and stop what is left of them.

        Where the others cannot live on meanwhile all of the run is moved. Nothing is stopped where there is no plan.
        unasked: the nodes that do not answer.
        """
        self.store.acting(run.run_id, "moves")
        problem = await self._play(
            "resume", run, instance=",".join(ids), else_all="true", detach="true", stop="true",
            gone=",".join(gone), unasked=",".join(unasked),
        )  # fmt: skip
        if problem:
            self.store.cut_off(run.run_id)
        self.store.acting(run.run_id, "")
        self._problems[run.run_id] = problem
        self._checkpointed.pop(run.run_id, None)
        return problem

    async def _collect(self, run: LookedAfter) -> str:
        """Bring a run home that has ended. It exits with 2 for a run that failed, so its code says nothing here."""
        await self._play("fetch", run)
        self.store.forget(run.run_id)
        return ""

    # tell

    def _tell(self, stored: Stored, now: float) -> None:
        """Write down what has changed, in the run's own events and in those of the cluster."""
        for node in self.file.nodes:
            self._tell_node(node, stored, now)
        for run in stored.runs.values():
            epochs = {key.id: one.epoch for key, one in stored.instances.items() if key.run_id == run.run_id}
            for node in {one.node for key, one in stored.instances.items() if key.run_id == run.run_id}:
                if node in self.reports and not self._is_silent(node, now):
                    self._tell_run(run, node, epochs)
        self._seen = {key: seen for key, seen in self._seen.items() if key[0] in stored.runs}

    def _tell_node(self, node: str, stored: Stored, now: float) -> None:
        silent = self._is_silent(node, now)
        if silent and node not in self.reports and now - self._started < self.settings.lost_after:
            return
        state = self.reports[node][1].state if node in self.reports else None
        status = state.status if state and not silent else UNAVAILABLE
        if status == self._statuses.get(node, HEALTHY):
            return
        self._statuses[node] = status
        if state and not silent:
            self.events.append(NodeStatusChanged(node, status, state.reasons))
            return
        lost = NodeLost(node, reason=self.links[node].problem)
        self.events.append(lost)
        for run_id in {key.run_id for key, one in stored.instances.items() if one.node == node and not one.outcome}:
            self._append(stored.runs[run_id], lost, is_told=True)

    def _tell_run(self, run: LookedAfter, node: str, epochs: Mapping[str, int]) -> None:
        state = self.reports[node][1].state
        seen = self._seen.setdefault((run.run_id, node), RunOnNode(node))
        seen.epochs = epochs
        mine = tuple(one for one in state.instances if one.run_id == run.run_id and one.id in epochs)
        events, _ = seen.look(replace(state, instances=mine))
        for event in events:
            self._append(run, event)

    def _append(self, run: LookedAfter, event: Event, *, is_told: bool = False) -> None:
        """Write down an event of a run. is_told: that it is among the cluster's already."""
        if not is_told:
            self.events.append(event, run.run_id)
        try:
            Run.open(run.runs_dir, run.run_id).append(event)
        except (RunError, OSError) as error:
            log.warning("%s: %s", run.run_id, error)


def _key(one: InstanceState) -> Key:
    return Key(one.run_id, one.id)


def _to_move(actions: Iterable[model.Action]) -> set[Key]:
    """Return the instances that are to go on elsewhere: stopped for that, or started."""
    return {one.key for one in actions if isinstance(one, Start) or (isinstance(one, Stop) and one.moving)}


def _any(key: Key, fit: Iterable[str]) -> tuple[str | None, str]:
    """Choose a node: which one is decided by the engine, when the run is resumed; here only whether there is any."""
    first = next(iter(fit), None)
    return first, "" if first else "no node is fit to take it"
