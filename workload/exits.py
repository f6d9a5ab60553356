"""`python3 -m workload.exits workload|llama`: write down how a unit ended. systemd runs it as ExecStopPost.

One line to <dir>/logs/exits.jsonl each time, with the memory that the kernel counted until then, and <dir>/outcome.json
when the workload ended by itself with status 0.
Whatever goes wrong here is said on stderr and no more: it must not change what becomes of the unit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import cgroup
from .database import now
from .instance import Instance


def main() -> None:
    """Write down the end that systemd describes in the environment."""
    unit = sys.argv[1] if len(sys.argv) == 2 else ""
    if unit not in ("workload", "llama"):
        raise ValueError("takes one argument, workload or llama")
    directory = Instance.load().dir
    result, code, status = (os.environ.get(name, "") for name in ("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS"))
    end = {"time": now(), "unit": unit, "result": result, "code": code, "status": status}
    append(directory, {**end, "memory": memory(cgroup.own())})
    if unit == "workload" and (result, code, status) == ("success", "exited", "0") and not shutting_down():
        write_outcome(directory)


def memory(group: cgroup.Group | None) -> dict[str, int | None]:
    """Bytes: the peaks of this unit's life and of the slice's, as far as the kernel keeps them, and what the processes
    of the other unit had resident at most. The workload ends before its llama-server does, which then still tells.
    """
    if group is None:
        return {}
    others = [folder for folder in group.slice.glob("*.service") if folder != group.unit]
    return {
        "unit_peak": cgroup.amount(group.unit, cgroup.PEAK),
        "slice_peak": cgroup.amount(group.slice, cgroup.PEAK),
        "others_resident_peak": sum(map(cgroup.resident_peak, others)),
    }


def append(directory: Path, event: dict[str, Any]) -> None:
    """Append one line, whole and on the disk."""
    logs = directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    file = os.open(str(logs / "exits.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (json.dumps(event) + "\n").encode())  # one write: the other unit's may come at the same time
        os.fsync(file)
    finally:
        os.close(file)


def shutting_down() -> bool:
    """Whether the node is going down: a program that exits 0 on SIGTERM has not completed then."""
    try:
        state = subprocess.run(
            ["systemctl", "is-system-running"],  # noqa: S607 - found on the PATH that systemd sets
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=5,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        print(f"exits: cannot tell whether the system is going down: {error}", file=sys.stderr)
        return False
    return state.strip() == b"stopping"


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
