#!/usr/bin/python
"""Ansible module: make a machine a node, or undo that."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prepare_node
short_description: Make a machine a node, or undo that
description:
  - C(prepared) makes the user who deploys and lets its key in, allows it the node's program as root and nothing else, writes down whom the node serves
    and where, makes its folders, and sees to the memory controller and the clock. As root. What is there already is left as it is.
  - C(undone) takes that back. What instances left stays, unless O(remove_data).
options:
  state: {description: What to do., choices: [prepared, undone], default: prepared, type: str}
  preparation: {description: "As C(contract/preparation.py) has it; for C(prepared).", type: dict}
  work_dir: {description: The node's C(remote_work_dir); for C(undone)., type: path}
  remove_data: {description: Remove what instances left, and programs., type: bool, default: false}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Make it a node
  prepare_node: {preparation: "{{ bootstrap_preparation }}"}
  become: true
"""

RETURN = r"""
warnings: {description: What a person still has to do., returned: success, type: list}
"""

import platform

from ansible.module_utils import on_node  # makes contract and node importable
from ansible.module_utils.basic import AnsibleModule

from contract import ContractError
from contract.preparation import Preparation
from node.bootstrap import prepare, undo
from node.errors import NodeError


def shipped() -> None:
    """Never called: see on_node."""
    from ansible.module_utils.node import bootstrap, errors


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["prepared", "undone"], "default": "prepared"},
            "preparation": {"type": "dict"},
            "work_dir": {"type": "path"},
            "remove_data": {"type": "bool", "default": False},
        },
        required_if=[("state", "prepared", ("preparation",)), ("state", "undone", ("work_dir",))],
        supports_check_mode=True,
    )
    given = module.params
    try:
        if given["state"] == "prepared":
            done = prepare(Preparation.from_json(given["preparation"], "preparation"), module.check_mode)
        else:
            done = undo(given["work_dir"], given["remove_data"], module.check_mode)
    except (NodeError, ContractError, OSError) as error:
        module.fail_json(msg=str(error))
    for one in done.todo:
        module.warn(f"{platform.node()}: {one}")
    module.exit_json(changed=bool(done.changes), diff=[change.to_diff() for change in done.changes])


if __name__ == "__main__":
    main()
