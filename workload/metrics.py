"""What this node's kernel says of the instance: its memory, the CPU, the temperature."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from contract import cgroup


class Sample(NamedTuple):
    """MiB of the instance, percent of all the node's cores, degrees Celsius (None without a thermal zone)."""

    memory_mb: float | None
    cpu_percent: float | None
    temperature_c: float | None


class Meter:
    """Takes samples; the CPU's share is that since the sample before."""

    def __init__(self) -> None:
        self._busy, self._total = _cpu_times()

    def sample(self) -> Sample:
        """One sample, now."""
        busy, total = _cpu_times()
        passed = total - self._total
        cpu = round(100.0 * (busy - self._busy) / passed, 1) if passed > 0 else None
        self._busy, self._total = busy, total
        return Sample(_memory_mb(), cpu, _temperature_c())

    def pressure(self) -> float:
        """How full the instance's memory is, 0 to 1 of its limit; 0 outside of an instance's slice."""
        group = cgroup.own()
        used = cgroup.amount(group.slice, cgroup.CURRENT) if group else None
        limit = cgroup.amount(group.slice, cgroup.LIMIT) if group else None
        return used / limit if used and limit else 0.0


def _cpu_times() -> tuple[int, int]:
    ticks = [int(word) for word in cgroup.read(Path("/proc/stat")).partition("\n")[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4], sum(ticks)) if len(ticks) == 8 else (0, 0)  # 3, 4: idle, iowait


def _memory_mb() -> float | None:
    """The memory of the instance's slice (this process and its llama-server), else of this process alone."""
    group = cgroup.own()
    used = cgroup.amount(group.slice, cgroup.CURRENT) if group else None
    if used is not None:
        return round(used / 2**20, 1)
    for line in cgroup.read(Path("/proc/self/status")).splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 2**10, 1)
    return None


def _temperature_c() -> float | None:
    """The hottest zone: the one that throttles."""
    found = [cgroup.read(zone) for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    degrees = [int(text) / 1000 for text in found if text.strip().lstrip("-").isdigit()]
    return max(degrees) if degrees else None
