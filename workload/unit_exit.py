"""`python3 -m workload.unit_exit workload|llama`: log how a unit ended. systemd runs it as ExecStopPost.

One line to the exit log (`exit_log`) each time, with the memory that the kernel counted until then, and
<dir>/outcome.json when the workload ended by itself with status 0.
Whatever goes wrong is reported on stderr and no more: it must not change what becomes of the unit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Mapping

from contract import ContractError, names
from contract import outcome as outcome_file
from contract.exits import COMPLETED, Exit, ExitMemory, Start, Ways, cause_of
from contract.outcome import Outcome

from . import cgroup, exit_log
from .database import now
from .this_instance import Instance


def main() -> None:
    """Log the exit that systemd describes in the environment."""
    unit = sys.argv[1] if len(sys.argv) == 2 else ""
    if unit not in names.UNITS:
        raise ValueError("takes one argument, workload or llama")
    instance = Instance.load()
    shown = ask_systemd(names.unit_name(instance.run_id, instance.id, unit))
    start = exit_log.last_start(instance.dir, unit)
    invocation = os.environ.get("INVOCATION_ID", start.invocation if start else "")
    if start and start.invocation != invocation:
        start = None  # of an earlier process: this one's could not be written
    ended, lived = times(shown, start)
    ways = Ways(*(os.environ.get(variable, "") for variable in ("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS")))
    used = memory(cgroup.own())
    out_of_memory = (used.oom_kills or 0) > (start.oom_kills if start else 0)
    asked = bool(shown["Job"]) if "Job" in shown else None
    cause = cause_of(unit, ways, outcome(instance.dir), out_of_memory, asked)
    one = Exit(
        unit=unit,
        time=exit_log.timestamp(ended),
        result=ways.result,
        code=ways.code,
        status=ways.status,
        cause=cause,
        started_at=None if lived is None else exit_log.timestamp(ended - lived),
        lived_seconds=None if lived is None else round(lived, 3),
        cycle=exit_log.cycle(instance.dir),
        node=instance.node,
        invocation=invocation,
        memory=used,
    )
    try:
        exit_log.append(instance.dir, one)
    finally:
        if unit == names.WORKLOAD and cause == COMPLETED:
            write_outcome(instance.dir)


def outcome(directory: Path) -> str:
    """How the instance has ended already; empty where it has not."""
    try:
        return Outcome.from_file(directory / names.OUTCOME, outcome_file.LIMIT).outcome
    except (OSError, ContractError):
        return ""


def times(shown: Mapping[str, str], start: Start | None) -> tuple[float, float | None]:
    """When the process ended (seconds since the epoch) and how long it lived: as systemd has it, else by its start."""
    wall, clock = time.time(), time.monotonic()
    try:
        began, ended = (int(shown[f"ExecMain{which}TimestampMonotonic"]) / 1e6 for which in ("Start", "Exit"))
    except (KeyError, ValueError):
        return wall, exit_log.seconds_since(start)
    return (wall - (clock - ended), ended - began) if ended >= began > 0 else (wall, exit_log.seconds_since(start))


def memory(group: cgroup.Group | None) -> ExitMemory:
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
    """What systemd says of the unit: `Job` is empty unless somebody has it stopped; {} when it does not answer."""
    properties = "Job,ExecMainStartTimestampMonotonic,ExecMainExitTimestampMonotonic"
    try:
        shown = subprocess.run(  # noqa: S603 - the unit's name is of letters, digits, _ and -
            ["systemctl", "show", "--property", properties, unit],  # noqa: S607 - found on the PATH that systemd sets
            capture_output=True,
            timeout=5,
            check=True,
        ).stdout.decode()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"unit_exit: cannot tell whether {unit} was stopped: {error}", file=sys.stderr)
        return {}
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def write_outcome(directory: Path) -> None:
    """Write outcome.json, whole or not at all, unless there is one."""
    aside = directory / f"{names.OUTCOME}.{os.getpid()}"
    with aside.open("w", encoding="utf-8") as file:
        file.write(json.dumps(Outcome("COMPLETED", now()).to_json()) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(str(aside), str(directory / names.OUTCOME))  # unlike a rename, it never replaces
    except FileExistsError:
        pass
    finally:
        aside.unlink()


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(f"unit_exit: {error}", file=sys.stderr)
