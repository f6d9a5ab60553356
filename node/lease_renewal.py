"""Renews leases (see `contract.leases`), and has them end.

A lease ends at an absolute moment of this boot, so a renewal that arrives late lets nothing act that should not. Its
end is enforced three times: systemd kills the units at that moment (PID 1 does, whatever else still runs), the gate in
each unit lets none start after it, and the built-in workload has a timer of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import List

from contract import ContractError, names
from contract.description import InstanceRef
from contract.exits import FENCED
from contract.leases import MOST_SECONDS, Lease

from . import exit_log, held_leases, instances, shared_folder, systemd
from .errors import NodeError

SYSTEMCTL = "/usr/bin/systemctl"
PROLONG_SECONDS = 1.0  # before its end, a lease can be followed by the next without a break
ACTING = ("active", "reloading", "deactivating")


def renew(ref: InstanceRef, lease: Lease) -> None:
    """Let an instance act until then, and start it where its lease had ended. Raises NodeError, OSError.

    What arrives late, is of another boot or of another epoch is refused. What is no later than what it has changes
    nothing. Around the end of a lease there is a while in which nothing is given: until all that acted by it has
    stopped, and its exits are written down as that. Else a process that is just being killed would count as one that
    has a lease and ended by itself, and nobody would start it again.
    """
    if problem := _problem(Path(ref.dir), lease):
        raise _refused(ref, problem)
    before = held_leases.current(ref.run_id, ref.id)
    if before and before.epoch == lease.epoch and before.until >= lease.until:
        return
    units = _units(ref)
    if before and before.until - held_leases.clock() < PROLONG_SECONDS:
        raise _refused(ref, "it gets the next one once this one has ended, in a moment")
    if not before and any(shown["ActiveState"] in ACTING for shown in systemd.show(units).values()):
        raise _refused(ref, "it gets one once all that acted by its last one has stopped")
    _arm(ref, lease, units)
    if before:
        _disarm(ref, _serial(before))
        if held_leases.clock() >= before.until:  # too late: its end has begun
            _disarm(ref, _serial(lease))
            raise _refused(ref, "it gets the next one once all that acted by this one has stopped")
    path = Path(names.lease_file(ref.run_id, ref.id))
    make_folder(ref.run_id, ref.id)
    if not before:
        _start(
            ref, units
        )  # their gate waits for what is written next: so nobody sees them with a lease, and not started
    shared_folder.write(path, json.dumps(lease.to_json()) + "\n")


def _refused(ref: InstanceRef, why: str) -> NodeError:
    return NodeError(f"{ref.id} of {ref.run_id} gets no lease: {why}")


def make_folder(run_id: str, instance_id: str) -> None:
    """Make the folder of an instance's lease, which its units see."""
    Path(names.lease_folder(run_id, instance_id)).mkdir(parents=True, exist_ok=True)


def remove(run_id: str, instance_id: str) -> None:
    """Forget the lease of an instance whose units are gone."""
    folder = Path(names.lease_folder(run_id, instance_id))
    if folder.exists():
        systemd.tried("stop", f"{names.fence_name(run_id, instance_id)}.timer")
        shutil.rmtree(str(folder))


def _start(ref: InstanceRef, units: List[str]) -> None:
    """Start again what had ended with its lease; what has failed by itself stays as it is.

    The ways to its peers are in the network of the llama-server that has ended, or, after a reboot, in one without any:
    they are closed, and opened anew with the workload.
    """
    ways = [path.name for path in names.UNIT_FOLDER.glob(f"jarfleet-{ref.run_id}-{ref.id}-*.socket")]
    log = exit_log.exits(Path(ref.dir))
    ended = {unit: log.of(unit)[-1].cause for unit in names.UNITS if log.of(unit)}
    shown = systemd.show(units)  # as it is now: a gate may have given up while the lease's end was arranged
    for unit in (names.WORKLOAD, *names.RELAYS):  # its workload starts its llama-server
        name = names.unit_name(ref.run_id, ref.id, unit)
        state = shown.get(name, {}).get("ActiveState")
        if state == "inactive" or (state == "failed" and ended.get(unit, FENCED) == FENCED):
            systemd.tried("reset-failed", name, names.unit_name(ref.run_id, ref.id, names.LLAMA))
            if unit == names.WORKLOAD and ways:
                systemd.tried("stop", *ways, *(f"{way[: -len('.socket')]}.service" for way in ways))
            systemd.tried("start", "--no-block", name)


def _problem(folder: Path, lease: Lease) -> str:
    """Why this lease is not given; empty if it is."""
    try:
        instance = instances.read_description(folder)
    except (FileNotFoundError, ContractError) as error:
        return f"it is not on this node ({error})"
    left = lease.until - held_leases.clock()
    if lease.boot != exit_log.boot():
        return "it is of another boot of this node"
    if left <= 0:
        return f"it comes {-left:.1f} s too late"
    if left > MOST_SECONDS:
        return f"it would last {left:.0f} s, and may last {MOST_SECONDS:.0f} s"
    if lease.epoch != instance.epoch:
        return f"it is of epoch {lease.epoch}, and epoch {instance.epoch} is here"
    if not instance.leased:
        return "it was launched to run without one"
    return "it has ended" if instances.read_outcome(folder) else ""


def _units(ref: InstanceRef) -> List[str]:
    """Those of its units that act: they are there once it was started."""
    return systemd.present(
        names.unit_name(ref.run_id, ref.id, unit) for unit in (names.WORKLOAD, names.LLAMA, *names.RELAYS)
    )


def _arm(ref: InstanceRef, lease: Lease, units: List[str]) -> None:
    """Have PID 1 end the units when the lease does. Raises NodeError.

    By a timer that counts from the start of systemd: unlike others it keeps its moment when units are reloaded. Its
    service conflicts with the units, so that PID 1 stops them even where the command that kills them cannot be run.
    """
    if not units:
        return
    name = names.fence_name(ref.run_id, ref.id, _serial(lease))
    now, monotonic = held_leases.clock(), time.monotonic()
    base = int(systemd.systemctl("show", "--property=UserspaceTimestampMonotonic", "--value")) / 1e6
    command = [
        *("/usr/bin/systemd-run", "--quiet", "--collect", f"--unit={name}"),
        f"--on-startup={lease.until - (now - monotonic) - base:.3f}",
        *("--timer-property=AccuracySec=1ms", "--timer-property=RemainAfterElapse=no"),
        *("-p", f"Conflicts={' '.join(units)}", "--", SYSTEMCTL, "kill", "--kill-who=main", "--signal=SIGKILL", *units),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise NodeError(f"{ref.id}: the end of its lease cannot be arranged: {done.stderr.strip()}")


def _disarm(ref: InstanceRef, serial: str) -> None:
    systemd.tried("stop", f"{names.fence_name(ref.run_id, ref.id, serial)}.timer")


def _serial(lease: Lease) -> str:
    return f"{lease.until * 1000:.0f}"
