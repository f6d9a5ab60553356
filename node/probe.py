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

from . import board, known_promises

GB = 2**30
BOARD = Path("/proc/device-tree/compatible")
DRIVER, DEVICE = Path("/proc/driver/nvidia/gpus"), Path("/dev/nvidia0")
CARDS = Path("/sys/class/drm")
AMD = "0x1002"  # as PCI numbers its vendors
# Nobody is there: addresses for documentation, RFC 5737 and RFC 3849.
ANYWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


class Memory(NamedTuple):
    """In GB = 2**30 bytes. On a Jetson it is the one pool of CPU and GPU."""

    total: float
    available: float


def node_state(
    work_dir: str,
    instances: Sequence[InstanceState],
    memory_percent: float,
    disk_percent: float,
    unfit: Sequence[str] = (),
) -> NodeState:
    """The node as it is now: DEGRADED if `unfit`, or above these uses of memory and of the disk of work_dir."""
    memory = read_memory()
    used = {
        "memory": (100 * (1 - memory.available / memory.total), memory_percent),
        "disk": (disk_used_percent(work_dir), disk_percent),
        "disk's number of files": (inodes_used_percent(work_dir), disk_percent),
    }
    reasons = [*unfit, *board.reasons()]
    reasons += [
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
        libc=platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else "",
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
    """The node's NVIDIA GPU, or all of them as one, as llama.cpp uses them; else why what is there cannot be used.

    Asks the device tree, then the driver: no one source is right on every board.
    """
    unified = Gpu(present=True, memory="unified", memory_gb=total_gb)
    try:
        if b"nvidia,tegra" in BOARD.read_bytes():
            return unified
    except OSError:
        pass
    if not (any(DRIVER.glob("*")) or DEVICE.exists()):
        others = sorted(path.parent.parent.name for path in CARDS.glob("card*/device/vendor") if _is_amd(path))
        return Gpu(problem=f"{' and '.join(others)} of AMD, which no build here uses" if others else "")
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return Gpu(problem=f"its driver does not answer: {error}")
    if done.returncode != 0:
        said = (f"{done.stdout}\n{done.stderr}".strip().splitlines() or [f"nvidia-smi ended with {done.returncode}"])[
            -1
        ]
        return Gpu(problem=f"its driver does not answer: {said}")
    try:
        sizes = [float(line) * 2**20 / GB for line in done.stdout.split("\n") if line.strip()]
    except ValueError:  # [N/A]: unified memory
        return unified
    return Gpu(present=bool(sizes), memory="discrete" if sizes else None, memory_gb=sum(sizes), cards=tuple(sizes))


def _is_amd(vendor: Path) -> bool:
    try:
        return vendor.read_text(encoding="ascii").strip() == AMD
    except OSError:
        return False


def address() -> str:
    """The address by which other machines reach this one: the source of its default route. Sends nothing."""
    for family, anywhere in ANYWHERE.items():
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((anywhere, 9))  # connecting a datagram socket only asks the routing table
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return ""


def free_gb(path: str) -> float:
    """What the file system of `path` has left for others than root. GB = 2**30 bytes."""
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize / GB


def existing(path: str) -> str:
    """The folder itself, or the nearest one on the way to it that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def read_only_problem(work_dir: str) -> str:
    """Where a work dir cannot be written, as that of a disk that has failed; empty if it can."""
    there = existing(work_dir)
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return f"{there} is on a file system that is mounted read-only: mount it writable, or change remote_work_dir"
    return ""


def disk_used_percent(path: str) -> float:
    """Use of the file system that holds `path`, or will hold it."""
    room = os.statvfs(existing(path))
    return 100 * (1 - room.f_bavail / room.f_blocks) if room.f_blocks else 0.0


def inodes_used_percent(path: str) -> float:
    """Use of the inodes of that file system; 0 where it has no fixed number of them."""
    room = os.statvfs(existing(path))
    return 100 * (1 - room.f_favail / room.f_files) if room.f_files else 0.0
