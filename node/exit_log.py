"""Writes the exit log, `logs/exits.jsonl` (see `contract.exits`): how each process of an instance ended, a line each.

Root writes it, where the instance cannot. A process that ended without a line - its node lost power, say - is found at
the next start of its unit and logged then.
"""

from __future__ import annotations

import json
import os
import stat
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Iterator, Optional, Tuple

from contract import ContractError, cgroup, names
from contract import progress as progress_file
from contract.exits import EXIT, NODE_LOST, START_LIMIT, Exit, Exits, Start, read_exits
from contract.progress import Progress

from . import shared_folder

LOOKED_AT = 1000  # files of a folder at most, when the last sign of life is looked for


def log_start(directory: Path, node: str, unit: str) -> None:
    """Record that a process of the unit starts, and first the exit of the process before it if nobody has."""
    invocation = os.environ.get("INVOCATION_ID", "")  # systemd's, the same for all that one start of a unit runs
    before = last_start(directory, unit)
    if before and before.invocation == invocation:
        return
    if before and not any(one.invocation == before.invocation for one in exits(directory).of(unit)):
        append(directory, _unlogged(directory, node, unit, before))
    _write_start(directory, unit, invocation)


def exits(directory: Path) -> Exits:
    """The exit log of the instance in this folder."""
    path = directory / names.EXIT_LOG
    return read_exits(path, shared_folder.owner(path.parent))


def append(directory: Path, one: Exit) -> None:
    """Append one exit."""
    path = directory / names.EXIT_LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    shared_folder.append_line(path, json.dumps(one.to_json()))


def last_start(directory: Path, unit: str) -> Optional[Start]:
    """What was recorded at the unit's last start; None where there is no readable record."""
    path = directory / names.start_file(unit)
    try:
        return Start.from_file(path, START_LIMIT, shared_folder.owner(path.parent))
    except (OSError, ContractError):
        return None


def seconds_since(start: Optional[Start]) -> Optional[float]:
    """Seconds since that start, by the clock that nobody sets; None when it was in another boot, or is not known."""
    return time.monotonic() - start.monotonic if start and start.boot == boot() else None


def boot() -> str:
    """Which boot of the node this is: the kernel's id, and when PID 1 began, as a container has its host's kernel."""
    _, _, fields = cgroup.read(Path("/proc/1/stat")).rpartition(") ")
    began = fields.split()[19] if fields else ""  # field 22, starttime: behind the name, which may hold anything
    return f"{cgroup.read(Path('/proc/sys/kernel/random/boot_id')).strip()}.{began}"


def cycle(directory: Path) -> Optional[int]:
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
    roots = {names.DESCRIPTION, names.OUTCOME, names.EXIT_LOG, *(names.start_file(unit) for unit in names.UNITS)}
    ours = {str(directory / name) for name in roots}
    written = (
        found.st_mtime
        for folder in (directory, directory / "logs")
        for path, found in _files(folder)
        if path not in ours
    )
    return min(max(written, default=0.0), time.time())  # it can set the times of its files


def _files(folder: Path) -> Iterator[Tuple[str, os.stat_result]]:
    """(path, status) of the regular files in a folder."""
    try:
        with os.scandir(str(folder)) as entries:
            for _, entry in zip(range(LOOKED_AT), entries):
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    yield entry.path, found
    except OSError:
        return


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
    shared_folder.write(path, json.dumps(start.to_json()) + "\n")
