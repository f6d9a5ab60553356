"""What root records around each process of an instance: its start (ExecStartPre) and its exit (ExecStopPost).

An exit is one line of the exit log (`exit_log`), with the memory that the kernel counted until then; and
<dir>/outcome.json when the workload ended by itself with status 0.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Mapping, Optional, Tuple

from contract import cgroup, exits, names, restarts, statuses
from contract.description import InstanceDescription
from contract.exits import Exit, ExitMemory, Start, Ways, cause_of
from contract.outcome import Outcome

from . import exit_log, held_leases, instances, outcomes


def started(folder: Path, unit: str) -> None:
    """Record that a process of the unit starts: at once, or after a while if the ones before it died early.

    Raises ValueError, OSError, ContractError.
    """
    instance = _instance(folder, unit)
    time.sleep(delay(ask_systemd(names.unit_name(instance.run_id, instance.id, unit))))
    exit_log.log_start(folder, instance.node, unit)


def ended(folder: Path, unit: str) -> None:
    """Record the exit that systemd describes in the environment. Raises ValueError, OSError, ContractError."""
    if os.environ.get("SERVICE_RESULT") == "exec-condition":
        return  # it had no lease, so no process of it has started
    instance = _instance(folder, unit)
    shown = ask_systemd(names.unit_name(instance.run_id, instance.id, unit))
    if not shown:
        print(f"systemd does not tell about {unit}, such as whether it was stopped", file=sys.stderr)
    start = exit_log.last_start(folder, unit)
    invocation = os.environ.get("INVOCATION_ID", start.invocation if start else "")
    if start and start.invocation != invocation:
        start = None  # of an earlier process: this one's could not be written
    end, lived = times(shown, start)
    ways = Ways(*(os.environ.get(variable, "") for variable in ("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS")))
    used = memory(cgroup.own())
    out_of_memory = (used.oom_kills or 0) > (start.oom_kills if start else 0)
    asked = bool(shown["Job"]) if "Job" in shown else None
    before = instances.read_outcome(folder)
    outcome, reason = (before.outcome, before.reason) if before else ("", "")
    if not outcome and instance.leased and not held_leases.holds(instance):
        reason = exits.FENCED
    cause = cause_of(unit, ways, outcome, out_of_memory, asked, reason)
    one = Exit(
        unit=unit,
        time=exit_log.timestamp(end),
        result=ways.result,
        code=ways.code,
        status=ways.status,
        cause=cause,
        started_at=None if lived is None else exit_log.timestamp(end - lived),
        lived_seconds=None if lived is None else round(lived, 3),
        cycle=exit_log.cycle(folder),
        node=instance.node,
        invocation=invocation,
        memory=used,
    )
    try:
        exit_log.append(folder, one)
    finally:
        if unit == names.WORKLOAD and cause == exits.COMPLETED:
            outcomes.write(folder, Outcome(statuses.COMPLETED, exit_log.timestamp(time.time())))


def delay(shown: Mapping[str, str]) -> float:
    """Seconds to wait before a process is started again, by what systemd shows of its unit."""
    try:
        number = int(shown["NRestarts"])
        began, ended = (int(shown[f"ExecMain{which}TimestampMonotonic"]) / 1e6 for which in ("Start", "Exit"))
    except (KeyError, ValueError):
        return 0.0
    return 0.0 if ended - began > restarts.EARLY_SECONDS else restarts.delay(number)


def times(shown: Mapping[str, str], start: Optional[Start]) -> Tuple[float, Optional[float]]:
    """When the process ended (seconds since the epoch) and how long it lived: as systemd has it, else by its start."""
    wall, clock = time.time(), time.monotonic()
    try:
        began, ended = (int(shown[f"ExecMain{which}TimestampMonotonic"]) / 1e6 for which in ("Start", "Exit"))
    except (KeyError, ValueError):
        return wall, exit_log.seconds_since(start)
    return (wall - (clock - ended), ended - began) if ended >= began > 0 else (wall, exit_log.seconds_since(start))


def memory(group: Optional[cgroup.Group]) -> ExitMemory:
    """What the kernel counts of this unit's life and of the slice, as far as it keeps it.

    The workload ends before its llama-server does, which then still tells what it had resident.
    """
    if group is None:
        return ExitMemory()
    others = [folder for folder in group.slice.glob("*.service") if folder != group.unit]
    return ExitMemory(
        unit_peak=cgroup.amount(group.unit, cgroup.PEAK),
        slice_peak=cgroup.amount(group.slice, cgroup.PEAK),
        others_resident_peak=sum(map(cgroup.resident_peak, others)),
        limit=cgroup.amount(group.slice, cgroup.LIMIT),
        oom_kills=cgroup.oom_kills(group.unit),
    )


def ask_systemd(unit: str) -> Mapping[str, str]:
    """What systemd says of the unit; {} when it does not answer. `Job` is empty unless somebody has it stopped."""
    properties = "NRestarts,Job,ExecMainStartTimestampMonotonic,ExecMainExitTimestampMonotonic"
    try:
        shown = subprocess.run(
            ["systemctl", "show", "--property", properties, unit],
            capture_output=True,
            timeout=5,
            check=True,
        ).stdout.decode()
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def _instance(folder: Path, unit: str) -> InstanceDescription:
    if unit not in names.UNITS:
        raise ValueError(f"{unit!r}: neither workload nor llama")
    return instances.read_description(folder)
