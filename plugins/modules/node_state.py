#!/usr/bin/python
"""Ansible module: read the state of one node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_state
short_description: What a node is, how it fares and which instances it holds
description:
  - Reads sizes, memory and disk use, the GPU, what keeps the node from running instances, and every instance on the node
    with its status, in one round trip.
  - With O(wait_run) it returns as soon as an instance of that run changes its status or dies, or after O(wait_seconds).
  - Changes nothing. Needs no privilege, but tells where the user cannot have the node's program run by root.
options:
  work_dir: {description: The node's C(remote_work_dir)., type: path, required: true}
  memory_percent: {description: Above this use of memory the node is DEGRADED., type: float, default: 90}
  disk_percent: {description: Above this use of the disk of O(work_dir) the node is DEGRADED., type: float, default: 95}
  wait_run: {description: Wait for a change in this run., type: str, default: ""}
  wait_seconds: {description: Wait no longer than this., type: float, default: 0}
  seen: {description: "What was seen of the run before, as returned in RV(ignore:seen); any difference ends the wait.", type: str, default: ""}
  program: {description: "sha256 of the program that the node is to have; empty - any.", type: str, default: ""}
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
ready: {description: Whether it has the program that it is to have and what it can promise is known., returned: always, type: bool}
"""

import json
import time

from ansible.module_utils import on_node  # makes contract and node importable
from ansible.module_utils.basic import AnsibleModule

from node import fitness
from node.instances import read_instances
from node.probe import node_state

LOOK_SECONDS = 0.5


def shipped() -> None:
    """Never called: see on_node."""
    from ansible.module_utils.node import fitness, instances, probe


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "work_dir": {"type": "path", "required": True},
            "memory_percent": {"type": "float", "default": 90},
            "disk_percent": {"type": "float", "default": 95},
            "wait_run": {"type": "str", "default": ""},
            "wait_seconds": {"type": "float", "default": 0},
            "seen": {"type": "str", "default": ""},
            "program": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    deadline = time.monotonic() + given["wait_seconds"]
    while True:
        instances = read_instances(given["work_dir"], given["wait_run"])
        watched = [[one.id, one.status, one.deaths, one.progress.to_json(), one.faults] for one in instances]
        seen = json.dumps(watched, sort_keys=True)
        if seen != given["seen"] or time.monotonic() >= deadline:
            break
        time.sleep(LOOK_SECONDS)
    unfit = [] if given["wait_run"] else fitness.reasons(given["work_dir"])  # who waits asks about instances
    state = node_state(given["work_dir"], instances, given["memory_percent"], given["disk_percent"], unfit)
    ready = state.promises is not None and given["program"] in ("", state.program)
    module.exit_json(changed=False, seen=seen, ready=ready, state=state.to_json())


if __name__ == "__main__":
    main()
