#!/usr/bin/python
"""Ansible module: the next lines of an instance's journal."""

from __future__ import annotations

DOCUMENTATION = r"""
module: journal
short_description: Read an instance's journal from where one left off
description:
  - Returns the lines after a cursor, as soon as there are any, or after O(wait_seconds).
  - A reader that keeps the cursor loses nothing over a broken connection.
options:
  run_id: {description: The run., type: str, required: true}
  id: {description: The instance., type: str, required: true}
  work_dir: {description: The node's C(remote_work_dir)., type: path, required: true}
  cursor: {description: Where to go on; empty starts O(lines) before the end., type: str, default: ""}
  lines: {description: How many lines to start with., type: int, default: 100}
  wait_seconds: {description: Wait so long for a new line., type: float, default: 0}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Read the last lines
  journal: {run_id: "{{ instance.run_id }}", id: a, work_dir: "{{ instance.work_dir }}"}
"""

RETURN = r"""
text: {description: The lines., returned: always, type: list}
cursor: {description: Where to go on., returned: always, type: str}
alive: {description: Whether more can come., returned: always, type: bool}
"""

import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.instances import ALIVE, TAP, UNITS, read_instances, unit_name


def read(given: dict) -> tuple:
    start = [f"--after-cursor={given['cursor']}"] if given["cursor"] else [f"--lines={given['lines']}"]
    units = [f"--unit={unit_name(given['run_id'], given['id'], unit)}" for unit in (*UNITS, TAP)]
    command = ["journalctl", "--no-pager", "--quiet", "--show-cursor", "--output=short-iso", *start, *units]
    text = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, errors="replace").stdout.splitlines()
    mark = "-- cursor: "
    cursor = next((line[len(mark) :] for line in text if line.startswith(mark)), given["cursor"])
    return [line for line in text if not line.startswith(mark)], cursor


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run_id": {"type": "str", "required": True},
            "id": {"type": "str", "required": True},
            "work_dir": {"type": "path", "required": True},
            "cursor": {"type": "str", "default": ""},
            "lines": {"type": "int", "default": 100},
            "wait_seconds": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    given = module.params
    deadline = time.monotonic() + given["wait_seconds"]
    while True:
        # The status first: what is written before an end is then surely among the lines.
        found = [i for i in read_instances(given["work_dir"], given["run_id"]) if i["id"] == given["id"]]
        alive = bool(found) and found[0]["status"] in ALIVE
        text, cursor = read(given)
        if text or not alive or time.monotonic() >= deadline:
            module.exit_json(changed=False, text=text, cursor=cursor, alive=alive)
        time.sleep(0.5)


if __name__ == "__main__":
    main()
