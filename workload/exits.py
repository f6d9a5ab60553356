"""`python3 -m workload.exits workload|llama`: write down how a unit ended. systemd runs it as ExecStopPost.

One line to the ledger (`ledger`) each time, with the memory that the kernel counted until then, and <dir>/outcome.json
when the workload ended by itself with status 0.
Whatever goes wrong here is said on stderr and no more: it must not change what becomes of the unit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Mapping

from . import cgroup, ledger
from .database import now
from .instance import Instance


def main() -> None:
    """Write down the end that systemd describes in the environment."""
    unit = sys.argv[1] if len(sys.argv) == 2 else ""
    if unit not in ledger.UNITS:
        raise ValueError("takes one argument, workload or llama")
    instance = Instance.load()
    told = ask_systemd(f"jarfleet-{instance.run_id}-{instance.id}-{unit}.service")
    begun = ledger.start(instance.dir, unit)
    invocation = os.environ.get("INVOCATION_ID", begun.get("invocation", ""))
    if begun.get("invocation") != invocation:
        begun = {}  # of an earlier process: this one's could not be written
    ended, lived = times(told, begun)
    ways = {
        name: os.environ.get(variable, "")
        for name, variable in (("result", "SERVICE_RESULT"), ("code", "EXIT_CODE"), ("status", "EXIT_STATUS"))
    }
    used = memory(cgroup.own())
    out_of_memory = (used.get("oom_kills") or 0) > begun.get("oom_kills", 0)
    outcome = str(ledger.load(instance.dir / "outcome.json").get("outcome", ""))
    asked = bool(told["Job"]) if "Job" in told else None
    cause = why(unit, ways, outcome, out_of_memory, asked)
    line = {
        "time": ledger.moment(ended),
        "unit": unit,
        **ways,
        "cause": cause,
        "started_at": None if lived is None else ledger.moment(ended - lived),
        "lived_seconds": None if lived is None else round(lived, 3),
        "cycle": ledger.cycle(instance.dir),
        "node": instance.node,
        "invocation": invocation,
        "memory": used,
    }
    try:
        ledger.append(instance.dir, line)
    finally:
        if unit == "workload" and cause == ledger.COMPLETED:
            write_outcome(instance.dir)


def why(unit: str, ways: Mapping[str, str], outcome: str, out_of_memory: bool, asked: bool | None) -> str:
    """The cause of an end, in the ledger's words.

    ways: "result", "code" and "status" as systemd has them; outcome: what outcome.json said when the unit ended;
    out_of_memory: the kernel has killed a process of the unit for its memory; asked: somebody - a person, a shutdown -
    had systemd stop the unit, None when it does not say.
    """
    killed = ways["code"] in ("killed", "dumped")
    clean = ways["result"] == "success" and (killed or ways["status"] == "0")
    if ways["result"] == "oom-kill" or (killed and ways["status"] == "KILL" and out_of_memory):
        return ledger.OUT_OF_MEMORY  # control groups of version 1 do not tell systemd of it
    if outcome == "FENCED":
        return ledger.FENCED
    if unit == "llama" and clean and outcome == "COMPLETED":
        return ledger.COMPLETED  # it is stopped when its workload no longer needs it
    if asked is None:
        asked = killed and ways["status"] == "TERM"  # who else would
    if asked or outcome in ("STOPPED", "FAILED"):
        return ledger.STOPPED
    if killed:
        return ledger.SIGNAL
    if unit == "workload" and (ways["result"], ways["status"]) == ("success", "0"):
        return ledger.COMPLETED
    return ledger.EXIT


def times(told: Mapping[str, str], begun: Mapping[str, float]) -> tuple[float, float | None]:
    """When the process ended (seconds since the epoch) and how long it lived: as systemd has it, else as begun."""
    wall, clock = time.time(), time.monotonic()
    try:
        start, end = (int(told[f"ExecMain{which}TimestampMonotonic"]) / 1e6 for which in ("Start", "Exit"))
    except (KeyError, ValueError):
        return wall, ledger.lived(begun)
    return (wall - (clock - end), end - start) if end >= start > 0 else (wall, ledger.lived(begun))


def memory(group: cgroup.Group | None) -> dict[str, int | None]:
    """Bytes: the peaks of this unit's life and of the slice's, as far as the kernel keeps them, what the processes
    of the other unit had resident at most (the workload ends before its llama-server does, which then still tells), and
    the slice's limit. `oom_kills` counts the processes of this unit that the kernel has killed for their memory.
    """
    if group is None:
        return {}
    others = [folder for folder in group.slice.glob("*.service") if folder != group.unit]
    return {
        "unit_peak": cgroup.amount(group.unit, cgroup.PEAK),
        "slice_peak": cgroup.amount(group.slice, cgroup.PEAK),
        "others_resident_peak": sum(map(cgroup.resident_peak, others)),
        "limit": cgroup.amount(group.slice, cgroup.LIMIT),
        "oom_kills": cgroup.oom_kills(group.unit),
    }


def ask_systemd(unit: str) -> dict[str, str]:
    """What systemd says of the unit: `Job` is empty unless somebody has it stopped; {} when it does not answer."""
    names = "Job,ExecMainStartTimestampMonotonic,ExecMainExitTimestampMonotonic"
    try:
        told = subprocess.run(  # noqa: S603 - the unit's name is of letters, digits, _ and -
            ["systemctl", "show", "--property", names, unit],  # noqa: S607 - found on the PATH that systemd sets
            capture_output=True,
            timeout=5,
            check=True,
        ).stdout.decode()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"exits: cannot tell whether {unit} was stopped: {error}", file=sys.stderr)
        return {}
    return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)


def write_outcome(directory: Path) -> None:
    """Write outcome.json, whole or not at all, unless there is one."""
    aside = directory / f"outcome.json.{os.getpid()}"
    with aside.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"outcome": "COMPLETED", "time": now()}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(str(aside), str(directory / "outcome.json"))  # unlike a rename, it never replaces
    except FileExistsError:
        pass
    finally:
        aside.unlink()


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(f"exits: {error}", file=sys.stderr)
