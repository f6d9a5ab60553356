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
  instance_ref: {description: "Which instance it is, as C(InstanceRef) of C(contract/description.py) has it.", type: dict, required: true}
  cursor: {description: Where to go on; empty starts O(lines) before the end., type: str, default: ""}
  lines: {description: How many lines to start with., type: int, default: 100}
  wait_seconds: {description: Wait so long for a new line., type: float, default: 0}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Read the last lines
  journal: {instance_ref: "{{ instance_ref }}"}
"""

RETURN = r"""
text: {description: The lines., returned: always, type: list}
cursor: {description: Where to go on., returned: always, type: str}
alive: {description: Whether more can come., returned: always, type: bool}
"""

from ansible.module_utils import on_node  # makes contract and node importable
from ansible.module_utils.basic import AnsibleModule

from node.errors import NodeError
from node.helper import ask


def shipped() -> None:
    """Never called: see on_node."""
    from ansible.module_utils.node import errors, helper


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "instance_ref": {"type": "dict", "required": True},
            "cursor": {"type": "str", "default": ""},
            "lines": {"type": "int", "default": 100},
            "wait_seconds": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    try:
        found = ask("logs", module.params)
    except NodeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
