"""What a node measures of itself: memory, disk, GPU, address."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple, Sequence

from contract import names
from contract.node_state import Gpu, InstanceState, NodeState
from contract.statuses import DEGRADED, HEALTHY

from . import known_promises

GB = 2**30
ANYWHERE = ("192.0.2.1", 9)  # TEST-NET-1, RFC 5737: nobody is there


class Memory(NamedTuple):
    """In GB = 2**30 bytes. On a Jetson it is the one pool of CPU and GPU."""

    total: float
    available: float


def node_state(
    work_dir: str, instances: Sequence[InstanceState], memory_percent: float, disk_percent: float
) -> NodeState:
    """The node as it is now. Above these uses of memory and of the disk of work_dir it is DEGRADED."""
    memory = read_memory()
    used = {
        "memory": (100 * (1 - memory.available / memory.total), memory_percent),
        "disk": (disk_used_percent(work_dir), disk_percent),
    }
    reasons = [
        f"{what} is {percent:.0f} % used (limit {limit:.0f} %)"
        for what, (percent, limit) in used.items()
        if percent > limit
    ]
    return NodeState(
        status=DEGRADED if reasons else HEALTHY,
        reasons=tuple(reasons),
        machine=platform.machine(),
        cores=os.cpu_count() or 1,
        ram_gb=memory.total,
        memory_used_percent=used["memory"][0],
        disk_used_percent=used["disk"][0],
        gpu=gpu(memory.total),
        address=address(),
        python=platform.python_version(),
        program=program(),
        promises=known_promises.read(),
        instances=tuple(instances),
    )


def program() -> str:
    """The sha256 of this node's program, by the name that its link leads to; empty where there is none."""
    try:
        return Path(os.readlink(names.NODE_PROGRAM)).stem
    except OSError:
        return ""


def read_memory() -> Memory:
    """Total and available memory, from /proc/meminfo."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kb = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.split(":")[1].strip()}
    return Memory(kb["MemTotal"] * 1024 / GB, kb["MemAvailable"] * 1024 / GB)


def gpu(total_gb: float) -> Gpu:
    """The node's NVIDIA GPU, if any. Asks the device tree, then the driver: no one source is right on every board."""
    unified = Gpu(present=True, memory="unified", memory_gb=total_gb)
    try:
        if b"nvidia,tegra" in Path("/proc/device-tree/compatible").read_bytes():
            return unified
    except OSError:
        pass
    if not (any(Path("/proc/driver/nvidia/gpus").glob("*")) or Path("/dev/nvidia0").exists()):
        return Gpu()
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        first = subprocess.run(query, stdout=subprocess.PIPE, check=True, text=True, timeout=20).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        return Gpu()  # a GPU whose driver does not answer cannot be used
    try:
        return Gpu(present=True, memory="discrete", memory_gb=float(first) * 2**20 / GB)
    except ValueError:  # [N/A]: unified memory
        return unified


def address() -> str:
    """The address by which other machines reach this one: the source of its default route. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ANYWHERE)  # connecting a datagram socket only asks the routing table
            return str(probe.getsockname()[0])
        except OSError:
            return ""


def free_gb(path: str) -> float:
    """What the file system of `path` has left for others than root. GB = 2**30 bytes."""
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize / GB


def disk_used_percent(path: str) -> float:
    """Use of the file system that holds `path`, or will hold it."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    room = os.statvfs(path)
    return 100 * (1 - room.f_bavail / room.f_blocks) if room.f_blocks else 0.0
