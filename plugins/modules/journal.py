#!/usr/bin/python
"""Ansible module: read the next lines of an instance's journal."""

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

import time

from ansible.module_utils import on_node  # noqa: F401 - makes contract and node importable
from ansible.module_utils.basic import AnsibleModule

from contract import names
from node import journal
from node.instances import read_instances

LOOK_SECONDS = 0.5


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
    units = [names.unit_name(given["run_id"], given["id"], unit) for unit in (*names.UNITS, *names.RELAYS)]
    deadline = time.monotonic() + given["wait_seconds"]
    while True:
        # Read the status first, so that everything written before an exit is certainly among the lines.
        found = [one for one in read_instances(given["work_dir"], given["run_id"]) if one.id == given["id"]]
        alive = bool(found) and found[0].alive
        text, cursor = journal.after(units, given["cursor"], given["lines"])
        if text or not alive or time.monotonic() >= deadline:
            module.exit_json(changed=False, text=text, cursor=cursor, alive=alive)
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
