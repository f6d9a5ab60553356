"""What this node's kernel says of the instance: its memory, the CPU, the temperature."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


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


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _cpu_times() -> tuple[int, int]:
    ticks = [int(word) for word in _read(Path("/proc/stat")).partition("\n")[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4], sum(ticks)) if len(ticks) == 8 else (0, 0)  # 3, 4: idle, iowait


def _memory_mb() -> float | None:
    """The memory of the instance's slice (this process and its llama-server), else of this process alone."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        group = Path(path).parent  # the slice around this service
        if group.suffix != ".slice" or group.name in ("system.slice", "user.slice"):
            continue
        if controllers == "":
            used = _read(Path("/sys/fs/cgroup" + str(group)) / "memory.current")
        elif controllers == "memory":
            used = _read(Path("/sys/fs/cgroup/memory" + str(group)) / "memory.usage_in_bytes")
        else:
            continue
        if used:
            return round(int(used) / 2**20, 1)
    for line in _read(Path("/proc/self/status")).splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 2**10, 1)
    return None


def _temperature_c() -> float | None:
    """The hottest zone: the one that throttles."""
    found = [_read(zone) for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    degrees = [int(text) / 1000 for text in found if text.strip().lstrip("-").isdigit()]
    return max(degrees) if degrees else None
