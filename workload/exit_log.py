"""Writes the exit log, `logs/exits.jsonl` (see `contract.exits`): how each process of the instance ended, a line each.

A process that ended without a line - its node lost power, say - is found at the next start of its unit and logged then.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path

from contract import ContractError, names
from contract import progress as progress_file
from contract.exits import EXIT, NODE_LOST, START_LIMIT, Exit, Exits, Start, read_exits
from contract.progress import Progress

from . import cgroup


def log_start(directory: Path, node: str, unit: str = names.WORKLOAD) -> Exit | None:
    """Record that a process of the unit starts; return the exit of the process before it, None at the very first start.

    If nobody logged that exit it is logged here. Called once more by the process itself it changes nothing.
    """
    invocation = os.environ.get("INVOCATION_ID", "")  # systemd's, the same for all that one start of a unit runs
    before = last_start(directory, unit)
    if before is None or not invocation or before.invocation != invocation:
        if before and not any(one.invocation == before.invocation for one in exits(directory).of(unit)):
            append(directory, _unlogged(directory, node, unit, before))
        _write_start(directory, unit, invocation)
    found = exits(directory).of(unit)
    return found[-1] if found else None


def exits(directory: Path) -> Exits:
    """The exit log of the instance in this folder."""
    return read_exits(directory / names.EXIT_LOG)


def append(directory: Path, one: Exit) -> None:
    """Append one exit, whole and on the disk, and not to a line that a power cut has torn."""
    path = directory / names.EXIT_LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(one.to_json()) + "\n").encode()
    file = os.open(str(path), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            line = b"\n" + line
        os.write(file, line)  # one write: the other unit's may come at the same time
        os.fsync(file)
    finally:
        os.close(file)


def last_start(directory: Path, unit: str) -> Start | None:
    """What was recorded at the unit's last start; None where there is no readable record."""
    try:
        return Start.from_file(directory / names.start_file(unit), START_LIMIT)
    except (OSError, ContractError):
        return None


def seconds_since(start: Start | None) -> float | None:
    """Seconds since that start, by the clock that nobody sets; None when it was in another boot, or is not known."""
    return time.monotonic() - start.monotonic if start and start.boot == boot() else None


def boot() -> str:
    """Which boot of the node this is: the kernel's id, and when PID 1 began, as a container has its host's kernel.

    An instance that is observed does not see PID 1: for it, which control group its slice has. It has it for a boot.
    """
    _, _, fields = cgroup.read(Path("/proc/1/stat")).rpartition(") ")
    if fields:
        mark = fields.split()[19]  # field 22, starttime: behind the name, which may hold anything
    else:
        group = cgroup.own()
        mark = f"{group.slice.stat().st_ino}" if group and group.slice.is_dir() else ""
    return f"{cgroup.read(Path('/proc/sys/kernel/random/boot_id')).strip()}.{mark}"


def cycle(directory: Path) -> int | None:
    """The mind's current life by its own progress.json; None where there is none."""
    try:
        return Progress.from_file(directory / names.PROGRESS, progress_file.LIMIT).cycle
    except (OSError, ContractError):
        return None


def timestamp(seconds: float) -> str:
    """A time since the epoch as the tables hold it: ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def _unlogged(directory: Path, node: str, unit: str, start: Start) -> Exit:
    """The exit of a process that nobody logged: it went with its node, or ExecStopPost could not log it."""
    try:
        began = datetime.fromisoformat(start.started_at).timestamp()
    except ValueError:
        began = 0.0
    ended = max(began, _last_sign_of_life(directory))
    return Exit(
        unit=unit,
        time=timestamp(ended),
        cause=EXIT if start.boot == boot() else NODE_LOST,
        started_at=start.started_at,
        lived_seconds=round(ended - began, 3),
        cycle=cycle(directory),
        node=node,
        invocation=start.invocation,
    )


def _last_sign_of_life(directory: Path) -> float:
    """When the instance last wrote to a file of its own: seconds since the epoch, 0 where it never did."""
    ours = {directory / name for name in (names.EXIT_LOG, names.DESCRIPTION, names.OUTCOME)}
    ours |= {directory / names.start_file(unit) for unit in names.UNITS}
    export = directory / names.EXPORT
    files = (path for path in directory.rglob("*") if path not in ours and export not in path.parents)
    return max((path.stat().st_mtime for path in files if path.is_file()), default=0.0)


def _write_start(directory: Path, unit: str, invocation: str) -> None:
    group = cgroup.own()
    start = Start(
        invocation=invocation or uuid.uuid4().hex,
        boot=boot(),
        started_at=timestamp(time.time()),
        monotonic=time.monotonic(),
        oom_kills=(cgroup.oom_kills(group.unit) if group else None) or 0,
    )
    path = directory / names.start_file(unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".new")
    with aside.open("w", encoding="utf-8") as file:
        file.write(json.dumps(start.to_json()) + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
