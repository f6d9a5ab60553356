"""logs/exits.jsonl: how each process of the instance ended and how long it lived, as the node saw it, a line an end.

`python3 -m workload.ledger workload|llama` writes down that a process of that unit begins; systemd runs it as
ExecStartPre, `workload.exits` as ExecStopPost. What ended and left no line is found at the next beginning.
Like there, whatever goes wrong is said on stderr and no more.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Mapping

from . import cgroup
from .instance import Instance

UNITS = ("workload", "llama")
COMPLETED, OUT_OF_MEMORY, SIGNAL, EXIT = "completed", "out_of_memory", "signal", "exit"
STOPPED, NODE_LOST, FENCED = "stopped", "node_lost", "fenced"


def begin(directory: Path, node: str, unit: str = "workload") -> dict[str, Any] | None:
    """A process of the unit begins: the line of the end of the one before it; None at the very first beginning.

    If nobody wrote that line it is written here. Called once more by the process itself it changes nothing.
    """
    invocation = os.environ.get("INVOCATION_ID", "")  # systemd's, the same for all that one start of a unit runs
    before = start(directory, unit)
    if not invocation or before.get("invocation") != invocation:
        if before and not any(end.get("invocation") == before["invocation"] for end in ends(directory, unit)):
            append(directory, _unseen(directory, node, unit, before))
        _write_start(directory, unit, invocation)
    found = ends(directory, unit)
    return found[-1] if found else None


def ends(directory: Path, unit: str = "") -> list[dict[str, Any]]:
    """The lines so far, of one unit if named; a torn line is passed over."""
    return read(directory / "logs" / "exits.jsonl", unit)


def read(path: Path, unit: str = "") -> list[dict[str, Any]]:
    """The lines of an exits.jsonl, wherever it lies: as `ends`."""
    found = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            end = json.loads(line)
        except ValueError:
            continue
        if isinstance(end, dict) and end.get("unit") in ([unit] if unit else UNITS):
            found.append(end)
    return found


def words(end: Mapping[str, Any]) -> str:
    """An end for a person, and for the mind."""
    cause, status = end.get("cause"), end.get("status")
    if cause == OUT_OF_MEMORY:
        return "killed: out of memory"
    if cause == SIGNAL:
        return f"killed by SIG{status}"
    if cause == EXIT:
        return f"ended with exit code {status}" if status else "ended; how is not known"
    if cause == NODE_LOST:
        return "its node was lost"
    return str(cause)


def append(directory: Path, end: Mapping[str, Any]) -> None:
    """Append one line, whole and on the disk, and not to one that a power cut has torn."""
    logs = directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(end) + "\n").encode()
    file = os.open(str(logs / "exits.jsonl"), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            line = b"\n" + line
        os.write(file, line)  # one write: the other unit's may come at the same time
        os.fsync(file)
    finally:
        os.close(file)


def start(directory: Path, unit: str) -> dict[str, Any]:
    """What was written down when the unit's last process began; {} where nothing was.

    {"invocation", "boot", "started_at": ISO 8601, "monotonic": seconds of this boot, "oom_kills": the kernel's count}
    """
    return load(_start_file(directory, unit))


def lived(begun: Mapping[str, Any]) -> float | None:
    """Seconds since that start, by the clock that nobody sets; None when it was in another boot, or is not known."""
    return time.monotonic() - begun["monotonic"] if begun and begun["boot"] == boot() else None


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
    """The life that the mind is in, by its own progress.json; None where it keeps none."""
    found = load(directory / "progress.json").get("cycle")
    return found if isinstance(found, int) else None


def load(path: Path) -> dict[str, Any]:
    """A JSON object from a file; {} when it is not there or is none, as a power cut may leave it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def moment(seconds: float) -> str:
    """A time since the epoch as the tables hold it: ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def _unseen(directory: Path, node: str, unit: str, begun: Mapping[str, Any]) -> dict[str, Any]:
    """The line of a process whose end nobody wrote down: it went with its node, or ExecStopPost could not do it."""
    began = datetime.fromisoformat(begun["started_at"]).timestamp()
    ended = max(began, _last_sign_of_life(directory))
    return {
        "time": moment(ended),
        "unit": unit,
        "result": "",
        "code": "",
        "status": "",
        "cause": EXIT if begun["boot"] == boot() else NODE_LOST,
        "started_at": begun["started_at"],
        "lived_seconds": round(ended - began, 3),
        "cycle": cycle(directory),
        "node": node,
        "invocation": begun["invocation"],
        "memory": {},
    }


def _last_sign_of_life(directory: Path) -> float:
    """When the instance last wrote to a file of its own: seconds since the epoch, 0 where it never did."""
    ours = {directory / "logs" / "exits.jsonl", *(_start_file(directory, unit) for unit in UNITS)}
    ours |= {directory / "instance.json", directory / "outcome.json"}
    files = (path for path in directory.rglob("*") if path not in ours and directory / "export" not in path.parents)
    return max((path.stat().st_mtime for path in files if path.is_file()), default=0.0)


def _start_file(directory: Path, unit: str) -> Path:
    return directory / "logs" / f"{unit}.start.json"


def _write_start(directory: Path, unit: str, invocation: str) -> None:
    group = cgroup.own()
    begun = {
        "invocation": invocation or uuid.uuid4().hex,
        "boot": boot(),
        "started_at": moment(time.time()),
        "monotonic": time.monotonic(),
        "oom_kills": (cgroup.oom_kills(group.unit) if group else None) or 0,
    }
    path = _start_file(directory, unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".new")
    with aside.open("w", encoding="utf-8") as file:
        file.write(json.dumps(begun) + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def main() -> None:
    """Write down that a process of the unit named begins."""
    if len(sys.argv) != 2 or sys.argv[1] not in UNITS:
        raise ValueError("takes one argument, workload or llama")
    instance = Instance.load()
    begin(instance.dir, instance.node, sys.argv[1])


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(f"ledger: {error}", file=sys.stderr)
