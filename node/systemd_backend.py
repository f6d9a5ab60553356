"""Runs instances as systemd units: submit, status, stop, collect.

These four operations are all that a backend of another kind would have to offer in its place.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from contract import ContractError, names
from contract.credentials import InstanceCredentials
from contract.description import InstanceRef
from contract.launch_spec import LaunchSpec
from contract.node_state import InstanceState
from contract.outcome import Outcome
from contract.receipt import Receipt
from contract.slot import Restored
from contract.statuses import ALIVE, COMPLETED, FAILED, FENCED, RUNNING, STOPPED

from . import (
    collection,
    credential_files,
    epochs,
    exit_log,
    health,
    held_leases,
    instances,
    isolation,
    journal,
    lease_renewal,
    outcomes,
    private_network,
    probe,
    shared_folder,
    slots,
    systemd,
    units,
    users,
)
from .admission import shortfalls
from .changes import Change
from .errors import NodeError, StartFailed

SETTLED_SECONDS = 5  # a workload that reports no progress must have lived so long to count as started
LOOK_SECONDS = 0.1
MOST_DEATHS = 3  # while it starts


class Done(NamedTuple):
    """What an operation did: whether it changed (in a check: would change) the node, and how."""

    changed: bool
    status: str
    diff: List[Dict[str, str]] = []  # noqa: RUF012 - a NamedTuple's default, never changed
    faults: List[str] = []  # noqa: RUF012 - what could not be collected
    receipt: Optional[Receipt] = None  # of a start
    spare: bool = False  # of a collection: some copies are in memory, in the second of names.copies_folders()
    slot: bool = False  # of a collection: llama-server's slot is among the copies
    restored: Optional[Restored] = None  # of a start with a slot


class SystemdBackend:
    """One instance on this node. `check`: only say what would be done."""

    def __init__(self, ref: InstanceRef, check: bool = False) -> None:
        if problem := names.work_dir_problem(ref.work_dir):
            raise NodeError(f"remote_work_dir {ref.work_dir!r} {problem}")
        self.ref, self.check = ref, check
        self.dir = Path(ref.dir)
        self.units = {unit: names.unit_name(ref.run_id, ref.id, unit) for unit in (*names.UNITS, *names.RELAYS)}

    @property
    def own(self) -> List[str]:
        """Its units but the stream relay: those that every instance has, and those of its private network."""
        fixed = [*(self.units[unit] for unit in names.UNITS), names.slice_name(self.ref.run_id, self.ref.id)]
        there = names.UNIT_FOLDER.glob(f"jarfleet-{self.ref.run_id}-{self.ref.id}-*")
        return [*fixed, *sorted({path.name for path in there} - set(self.units.values()))]

    @property
    def _named(self) -> Tuple[str, str, str]:
        return self.ref.work_dir, self.ref.run_id, self.ref.id

    @property
    def all(self) -> List[str]:
        """All of its units."""
        return [*self.own, *(self.units[relay] for relay in names.RELAYS)]

    def status(self) -> str:
        """The instance's status now."""
        workload = self.units[names.WORKLOAD]
        return instances.status_of(self.dir, systemd.show([workload])[workload])

    # submit

    def submit(self, spec: LaunchSpec, credentials: InstanceCredentials, llama_cpp: str, start_timeout: float) -> Done:
        """Start the instance unless it runs or has ended: admit it, write its units, wait until it is healthy.

        What fails to start is stopped again. Raises StartFailed, and NodeError when it cannot be admitted.
        """
        text = json.dumps(spec.description.to_json(), indent=2, sort_keys=True) + "\n"
        description = {self.dir / names.DESCRIPTION: text}
        earlier = epochs.earlier(self.dir, spec.description)
        if earlier and self.status() in ALIVE:
            raise NodeError(f"{self.ref.id} still runs here in its epoch {earlier}: stop it, then resume it")
        user = None if earlier else users.user_of(self.dir)
        if instances.read_outcome(self.dir) and not earlier:
            return Done(False, self.status())
        changes = _changes({**description, **_unit_files(spec, llama_cpp, user or users.POOL[0])})
        diff = [change.to_diff() for change in changes]
        if not changes and self.status() == RUNNING:
            return Done(False, RUNNING, receipt=self._receipt())
        if self.check:
            return Done(True, "PENDING", diff)
        if earlier:
            self._remove(self.all)
        user, others = self._reserve(spec, text)
        files = _unit_files(spec, llama_cpp, user)
        try:
            credential_files.write(spec, credentials)
            isolation.prepare(spec, others)
            if spec.description.leased:
                lease_renewal.make_folder(spec.run_id, spec.id)
            for path, unit in files.items():
                shared_folder.write(path, unit)
            systemd.systemctl("daemon-reload")
            guard = names.unit_name(self.ref.run_id, self.ref.id, names.GUARD)
            started = [guard, *(self.units[unit] for unit in (names.WORKLOAD, names.RELAY) if unit in spec.processes)]
            systemd.systemctl("enable", "--quiet", *started)
            self._wait_for_lease(spec, start_timeout)
            before = exit_log.exits(self.dir)  # of its earlier epochs
            try:
                self._start(spec, started)
            except NodeError:
                came = slots.restored(self.ref.run_id, self.ref.id)
                if not came or not came.has_spoiled:
                    raise
                systemd.tried("stop", *self.all)  # all that share its private network
                slots.without(self.ref.run_id, self.ref.id)
                self._start(spec, started)
            self._wait_healthy(spec, start_timeout, {unit: before.deaths(unit) for unit in names.UNITS})
        except Exception as error:
            printed = journal.text(self.all, "--lines=30")
            last = journal.last_line(self.units[names.WORKLOAD])
            self._conclude(FAILED)
            self._remove(self.all)
            reason = f"{self.ref.id} did not start: {error}{f'; its last words: {last}' if last else ''}"
            raise StartFailed(f"{reason}\n{printed}") from error
        restored = slots.restored(self.ref.run_id, self.ref.id)
        return Done(True, self.status(), diff, receipt=self._receipt(), restored=restored)

    def _wait_for_lease(self, spec: LaunchSpec, timeout: float) -> None:
        """Until the control loop has seen the instance here, and let it act. Raises NodeError."""
        started = time.monotonic()
        while not held_leases.holds(spec.description):
            if time.monotonic() > started + timeout:
                raise NodeError(
                    f"no lease came for it within {timeout:.0f} s: does the control loop run, and reach this node?"
                )
            time.sleep(LOOK_SECONDS)

    def _start(self, spec: LaunchSpec, wanted: List[str]) -> None:
        """Start units. The workload's waits for llama-server, then the sockets, which join its network, then the probe.

        Raises NodeError.
        """
        try:
            systemd.systemctl("start", "--quiet", *wanted)
        except NodeError as error:
            receipt = self._receipt()
            broken = receipt.broken if receipt else ()
            if not broken:
                raise
            words = [f"it could{'' if one.succeeded else ' not'} {one.name}: {one.detail}" for one in broken]
            raise NodeError(f"its isolation does not hold: {'; '.join(words)}") from error
        sockets = systemd.show(private_network.sockets(spec))
        failed = [name for name, shown in sockets.items() if shown["ActiveState"] != "active"]
        if failed:
            raise NodeError(f"{', '.join(failed)} could not be opened: has somebody else the port?")

    def _receipt(self) -> Optional[Receipt]:
        return isolation.receipt(self.ref.run_id, self.ref.id)

    def _reserve(self, spec: LaunchSpec, description: str) -> Tuple[str, List[InstanceState]]:
        """Take the node's room by writing the description, under the node's lock: two launches cannot take the same.

        Returns the user that the instance has here, and the other instances on the node. Raises NodeError when there is
        no room; then nothing of the instance is on the node.
        """
        folder = Path(names.instances_folder(self.ref.work_dir))
        folder.mkdir(parents=True, exist_ok=True)
        # Of instances only root and who logs in may know: what is in there may be readable by everybody.
        os.chown(str(folder), 0, pwd.getpwnam(self.ref.owner).pw_gid)
        folder.chmod(0o750)
        with (folder / ".lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            others = [other for other in instances.read_instances(self.ref.work_dir) if other.dir != str(self.dir)]
            free = probe.free_gb(str(folder))
            reasons = shortfalls(spec.description, spec.capacity, others, free)
            if reasons:
                raise NodeError(
                    f"{self.ref.id}: no room on this node any more: {'; '.join(reasons)};"
                    " another run was faster, run again"
                )
            if earlier := epochs.earlier(self.dir, spec.description):
                epochs.put_aside(self.dir, earlier, names.copies_folders(*self._named))
            if spec.checkpoint and not (self.dir / names.DESCRIPTION).exists():
                shutil.rmtree(str(self.dir), ignore_errors=True)  # of a start that was cut off before it had all
            user = users.user_of(self.dir)
            if user is None:
                with users.lending(self.dir) as lent:
                    user = lent.pw_name
                    self._make_folder(lent)
                    if spec.checkpoint:
                        epochs.restore(self.dir, spec.checkpoint, spec.work_dir, lent)
            shared_folder.write(self.dir / names.DESCRIPTION, description)
        return user, others

    def _make_folder(self, user: pwd.struct_passwd) -> None:
        self.dir.parent.mkdir(exist_ok=True)
        self.dir.parent.chmod(0o755)
        for folder in (self.dir, self.dir / "logs"):
            shared_folder.make(folder, user.pw_gid)
        outcomes.reserve(self.dir)
        shared_folder.write(self.dir / names.EXIT_LOG, "", replace=False)  # so that the name is root's from the start
        checkpoints = self.dir / names.CHECKPOINTS
        checkpoints.mkdir(exist_ok=True)
        os.chown(str(checkpoints), user.pw_uid, user.pw_gid)

    def _wait_healthy(self, spec: LaunchSpec, start_timeout: float, before: Dict[str, int]) -> None:
        """Until all that must answer answers 200 and the workload is at work, or has ended already, as a short one may.

        At work is a workload that reports progress; one that does not must have lived for a few seconds. One that dies
        again and again has started; a llama-server that does has not. before: {unit: how often it had died before}.
        """
        answers = dict.fromkeys(spec.health, "nothing")
        started = time.monotonic()
        while time.monotonic() < started + start_timeout:
            now = self.status()
            shown = systemd.show([self.units[unit] for unit in spec.health])
            exits = exit_log.exits(self.dir)
            deaths = {unit: exits.deaths(unit) - before[unit] for unit in names.UNITS}
            gives_up = any(unit["ActiveState"] == "failed" for unit in shown.values())
            if now in (COMPLETED, FAILED) or gives_up or deaths[names.LLAMA] >= MOST_DEATHS:
                break
            if deaths[names.WORKLOAD] >= MOST_DEATHS:
                return  # it starts, and dies: what comes of that is told by who watches
            answers = {unit: health.ask(shown[self.units[unit]]["MainPID"], url) for unit, url in spec.health.items()}
            settled = time.monotonic() > started + SETTLED_SECONDS
            at_work = settled or (self.dir / names.PROGRESS).exists()
            if set(answers.values()) == {"200"} and now == RUNNING and at_work:
                return
            time.sleep(LOOK_SECONDS)
        if self.status() != COMPLETED:
            said = "; ".join(f"{url} answered {answers[unit]}" for unit, url in spec.health.items())
            raise NodeError(f"{self.status()}; {said}")

    # redirect

    def redirect(self, spec: LaunchSpec) -> Done:
        """Let the ways between this instance, which lives on, and its peers lead where the spec says: one has moved.

        Cut off within it and called again it goes on. Raises NodeError when another epoch of it is here.
        """
        try:
            here = instances.read_description(self.dir).epoch
        except (FileNotFoundError, ContractError) as error:
            raise NodeError(f"{self.ref.id} is not here: {error}") from error
        if here != spec.description.epoch:
            raise NodeError(f"{self.ref.id} is here in epoch {here}, not in epoch {spec.description.epoch}")
        user = users.user_of(self.dir)
        if self.status() not in ALIVE or user is None:
            return Done(False, self.status())
        files = {names.UNIT_FOLDER / name: text for name, text in units.render_ways(spec, user).items()}
        changes = _changes(files)
        diff = [change.to_diff() for change in changes]
        if self.check:
            return Done(bool(changes), self.status(), diff)
        if changes:
            systemd.tried("stop", *(Path(change.path).name for change in changes))
            for change in changes:
                shared_folder.write(Path(change.path), change.after)
            systemd.systemctl("daemon-reload")
        llama = self.units[names.LLAMA]
        if systemd.show([llama])[llama]["ActiveState"] == "active":  # else they come with it
            relay = [self.units[names.RELAY]] if spec.relay else []
            systemd.systemctl("start", *private_network.sockets(spec), *relay)
        return Done(bool(changes), self.status(), diff)

    # stop

    def stop(self) -> Done:
        """Stop the instance: systemd ends it gracefully, and by force after TimeoutStopSec."""
        now = self.status() if self.dir.is_dir() else ""
        if now not in ALIVE and not systemd.present(self.all):
            return Done(False, self.status())
        if self.check:
            return Done(True, now)
        outcome = FAILED if now == FAILED else FENCED if self._is_fenced() else STOPPED
        told = self._conclude(outcome) if now else ""
        self._remove(self.all)
        if told:  # its disk is full: now that nothing of it writes any more there may be room
            told = self._conclude(outcome)
        if told:
            raise NodeError(f"{self.ref.id} is stopped, but {told}: make room there, and stop it again")
        return Done(True, self.status())

    def _is_fenced(self) -> bool:
        """Whether its lease had ended before anybody stopped it."""
        try:
            return not held_leases.holds(instances.read_description(self.dir))
        except (FileNotFoundError, ContractError):
            return False

    # collect

    def collect(self, slot: bool = False) -> Done:
        """Leave consistent copies for the controller to fetch, and remove the units of what has ended.

        slot: with llama-server's slot, where it has one.
        """
        if not self.dir.is_dir():
            raise NodeError(f"{self.ref.id}: there is no {self.dir} on this node")
        now = self.status()
        if self.check:
            return Done(False, now)
        present = systemd.present(self.own)
        told = ""
        if now not in ALIVE:
            told = self._conclude(now)  # systemd gave it up, or a person stopped it: a reboot must not start it again
        if now not in ALIVE and not told:
            self._remove(self.own)  # waits for llama-server's exit, and for it to be logged
        copies = self._copies(now in ALIVE, complete=not present)
        faults = [*([told] if told else []), *copies.faults]
        has_slot = slot and self._copy_slot(copies, now in ALIVE)
        return Done(False, self.status(), faults=faults, spare=copies.spare, slot=has_slot)

    def _copy_slot(self, copies: collection.Collection, alive: bool) -> bool:
        """Copy llama-server's slot, saved anew where that is alive; whether there is a copy. It may well be missing."""
        if alive:
            with suppress(subprocess.SubprocessError):
                subprocess.run(
                    [*units.NODE_PROGRAM, "save", str(self.dir)], timeout=slots.SAVE_SECONDS, capture_output=True
                )
        with suppress(OSError), slots.saved(self.dir) as file:
            return copies.slot(file, time.time() if alive else (self.dir / names.OUTCOME).stat().st_mtime)
        return False

    def _copies(self, alive: bool, complete: bool) -> collection.Collection:
        """Copies of the instance's files, where the controller fetches them.

        complete: it was without units before, so nothing is printed any more, and the journal may forget.
        """
        group = pwd.getpwnam(self.ref.owner).pw_gid
        user = users.user_of(self.dir) or self.ref.owner
        owners = {0, pwd.getpwnam(user).pw_uid}
        folders = [Path(folder) for folder in names.copies_folders(*self._named)]
        copies = collection.Collection(self.dir, folders, self.ref.id, owners, group)
        # What tells of the others first. Not the relay's journal: the copy lies where the instance could read it.
        copies.journal([self.units[unit] for unit in names.UNITS], complete)
        copies.exits_and_stream()
        for copy, patterns in instances.read_patterns(self.dir).items():
            copies.packed(copy, patterns)
        copies.database(user if alive else None)
        return copies

    # for all of them

    def _conclude(self, outcome: str) -> str:
        """Write the outcome before anything is stopped, so that the stop is not taken for the end of the work.

        Returns why it could not be written; empty if it was.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            outcomes.write(self.dir, Outcome(outcome, now))
        except OSError as error:
            return f"{self.dir / names.OUTCOME} cannot be written: {error.strerror}"
        return ""

    def _remove(self, wanted: List[str]) -> None:
        """Remove units. Without them no process of the instance's is left, and its files become root's."""
        systemd.remove(wanted, names.run_slice_name(self.ref.run_id), f"jarfleet-{self.ref.run_id}-")
        if self.dir.is_dir() and users.user_of(self.dir):
            users.seize(self.dir)
        if not systemd.present(self.all):
            credential_files.remove(self.ref.run_id, self.ref.id)
            isolation.remove(self.ref.run_id, self.ref.id)
            slots.forget(self.ref.run_id, self.ref.id)
            lease_renewal.remove(self.ref.run_id, self.ref.id)


def _changes(wanted: Dict[Path, str]) -> List[Change]:
    """The files that are not what they should be."""
    found = []
    for path, after in wanted.items():
        try:
            before = path.read_text(encoding="utf-8")
        except OSError:
            before = ""
        if before != after:
            found.append(Change(str(path), before, after))
    return found


def _unit_files(spec: LaunchSpec, llama_cpp: str, user: str) -> Dict[Path, str]:
    return {names.UNIT_FOLDER / name: text for name, text in units.render(spec, llama_cpp, user).items()}
