"""The control group around this process, and what the kernel counts of its memory there: version 1 and version 2.

What is counted are the pages that the group's processes were the first to touch: private ones, and those of files. A
model's pages that another process on the node has read before are not among them.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

LIMIT = ("memory.max", "memory.limit_in_bytes")
CURRENT = ("memory.current", "memory.usage_in_bytes")  # version 2, version 1
PEAK = ("memory.peak", "memory.max_usage_in_bytes")  # the former since Linux 5.19
OOM = ("memory.events", "memory.oom_control")


class Group(NamedTuple):
    """A service's control group and the instance's slice around it, as folders."""

    unit: Path
    slice: Path


def own(proc: Path = Path("/proc"), root: Path = Path("/sys/fs/cgroup")) -> Group | None:
    """The group of this process in the hierarchy that counts memory, or would; None outside of an instance's slice."""
    found = None
    for line in read(proc / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory") and Path(path).parent.name.startswith("jarfleet-"):
            unit = (root / "memory" if controllers else root) / path.lstrip("/")
            if controllers or found is None:
                found = Group(unit, unit.parent)
    return found


def amount(group: Path, names: tuple[str, ...]) -> int | None:
    """Bytes from the first of these files that the kernel has; None where it has none."""
    for name in names:
        text = read(group / name).strip()
        if text.isdigit():
            return int(text)
    return None


def oom_kills(group: Path) -> int | None:
    """How many processes of the group the kernel has killed for want of memory; None where it does not say.

    systemd makes a group anew for each process of a unit. In version 1 only the victim's own group counts.
    """
    for name in OOM:
        for line in read(group / name).splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


def resident_peak(group: Path, proc: Path = Path("/proc")) -> int:
    """Bytes that the group's living processes had resident at most (VmHWM), each at its own time, added up.

    It counts a mapped model's pages whoever has read them first. 0 when nothing lives.
    """
    total = 0
    for pid in read(group / "cgroup.procs").split():
        for line in read(proc / pid / "status").splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) * 1024
    return total


def read(path: Path) -> str:
    """A file of the kernel's; empty when it is not there."""
    try:
        return path.read_text()
    except OSError:
        return ""
