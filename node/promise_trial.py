"""Run inside a unit as an instance has it: what of the node's promises holds there. Prints {promise: whether}.

Its text is sent to `python3 -c`, so it imports nothing of ours. Its argument: bytes that are more than it may have.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys


def memory_limit(size: int) -> bool:
    """Whether who takes more than its unit may have is killed."""
    child = os.fork()
    if child == 0:
        taken = bytearray(size)
        taken[::4096] = b"x" * len(range(0, size, 4096))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def cpu_limit() -> bool:
    """Whether the unit's control group has a quota."""
    with open("/proc/self/cgroup") as file:
        groups = [line.rstrip("\n").split(":", 2) for line in file]
    for _, controllers, path in groups:
        if "cpu" in controllers.split(","):
            names = [
                f"/sys/fs/cgroup/{controllers}{path}/cpu.cfs_quota_us",
                f"/sys/fs/cgroup/cpu{path}/cpu.cfs_quota_us",
            ]
        elif not controllers:
            names = [f"/sys/fs/cgroup{path}/cpu.max", f"/sys/fs/cgroup/unified{path}/cpu.max"]
        else:
            continue
        for name in names:
            try:
                with open(name) as file:
                    if file.read().split()[0] not in ("-1", "max"):
                        return True
            except OSError:
                continue
    return False


def private_network() -> bool:
    """Whether there is a loopback and nothing else."""
    with open("/proc/self/net/dev") as file:
        return [line.split(":")[0].strip() for line in file if ":" in line] == ["lo"]


def address_rules() -> bool:
    """Whether packets to a forbidden address are dropped."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", 9)) in (errno.EPERM, errno.EAGAIN, errno.ETIMEDOUT)


def private_processes() -> bool:
    """Whether the processes of others are out of sight."""
    return not os.path.exists("/proc/1/status")


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "memory_limit": memory_limit(int(sys.argv[1])),
                "cpu_limit": cpu_limit(),
                "private_network": private_network(),
                "address_rules": address_rules(),
                "private_processes": private_processes(),
            }
        )
    )
