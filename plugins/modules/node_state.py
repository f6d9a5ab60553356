#!/usr/bin/python
"""Ansible module: the state of one node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_state
short_description: What a node is, how it fares and which instances it holds
description:
  - Reads sizes, memory and disk use, the GPU, and every instance on the node with its status, in one round trip.
  - With O(wait_run) it returns as soon as an instance of that run changes its status or dies, or after O(wait_seconds).
  - Changes nothing, needs no privilege.
options:
  work_dir: {description: The node's C(remote_work_dir)., type: path, required: true}
  memory_percent: {description: Above this use of memory the node is DEGRADED., type: float, default: 90}
  disk_percent: {description: Above this use of the disk of O(work_dir) the node is DEGRADED., type: float, default: 95}
  wait_run: {description: Wait for a change in this run., type: str, default: ""}
  wait_seconds: {description: Wait no longer than this., type: float, default: 0}
  seen: {description: "What was seen of the run before, as returned in RV(ignore:seen); any difference ends the wait.", type: str, default: ""}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Read the node
  node_state:
    work_dir: "{{ remote_work_dir }}"
"""

RETURN = r"""
state:
  description: The node's state. GB are 2**30 bytes.
  returned: always
  type: dict
  sample: {status: HEALTHY, reasons: [], ram_gb: 7.87, cores: 4, address: 192.168.1.101, instances: []}
seen: {description: A digest of the run's statuses for the next wait., returned: always, type: str}
"""

import glob
import json
import os
import platform
import socket
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.instances import read_instances

GB = 2**30


def memory() -> dict[str, float]:
    """Total and available memory in GB, from /proc/meminfo: on a Jetson the one pool of CPU and GPU."""
    with open("/proc/meminfo", encoding="ascii") as handle:
        kb = {line.split(":")[0]: int(line.split()[1]) for line in handle if line.split(":")[1].strip()}
    return {"total": kb["MemTotal"] * 1024 / GB, "available": kb["MemAvailable"] * 1024 / GB}


def gpu(total_gb: float) -> dict:
    """The node's NVIDIA GPU, if any. Asks the device tree, then the driver: no single source is right on every board."""
    none = {"present": False, "memory": None, "memory_gb": 0.0}
    try:
        with open("/proc/device-tree/compatible", "rb") as handle:
            if b"nvidia,tegra" in handle.read():
                return {"present": True, "memory": "unified", "memory_gb": total_gb}
    except OSError:
        pass
    if not (glob.glob("/proc/driver/nvidia/gpus/*") or os.path.exists("/dev/nvidia0")):
        return none
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        first = subprocess.run(query, stdout=subprocess.PIPE, check=True, text=True, timeout=20).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        return none  # a GPU whose driver does not answer cannot be used
    try:
        return {"present": True, "memory": "discrete", "memory_gb": float(first) * 2**20 / GB}
    except ValueError:  # [N/A]: unified memory
        return {"present": True, "memory": "unified", "memory_gb": total_gb}


def address() -> str:
    """The address by which other machines reach this one: the source of its default route. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1; connecting a datagram socket only asks the routing table
            return probe.getsockname()[0]
        except OSError:
            return ""


def disk_used_percent(path: str) -> float:
    """Use of the file system that holds `path`, or will hold it."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    room = os.statvfs(path)
    return 100 * (1 - room.f_bavail / room.f_blocks) if room.f_blocks else 0.0


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "work_dir": {"type": "path", "required": True},
            "memory_percent": {"type": "float", "default": 90},
            "disk_percent": {"type": "float", "default": 95},
            "wait_run": {"type": "str", "default": ""},
            "wait_seconds": {"type": "float", "default": 0},
            "seen": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    deadline = time.monotonic() + given["wait_seconds"]
    while True:
        instances = read_instances(given["work_dir"], given["wait_run"])
        seen = json.dumps([[i["id"], i["status"], i["deaths"], i["progress"]] for i in instances], sort_keys=True)
        if seen != given["seen"] or time.monotonic() >= deadline:
            break
        time.sleep(0.5)

    room = memory()
    memory_used = 100 * (1 - room["available"] / room["total"])
    disk_used = disk_used_percent(given["work_dir"])
    reasons = [
        f"{what} is {used:.0f} % used (limit {limit:.0f} %)"
        for what, used, limit in (
            ("memory", memory_used, given["memory_percent"]),
            ("disk", disk_used, given["disk_percent"]),
        )
        if used > limit
    ]
    module.exit_json(
        changed=False,
        seen=seen,
        state={
            "status": "DEGRADED" if reasons else "HEALTHY",
            "reasons": reasons,
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "ram_gb": room["total"],
            "memory_used_percent": memory_used,
            "disk_used_percent": disk_used,
            "gpu": gpu(room["total"]),
            "address": address(),
            "python": platform.python_version(),
            "instances": instances,
        },
    )


if __name__ == "__main__":
    main()
