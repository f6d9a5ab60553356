#!/usr/bin/python
"""Ansible module: find out what a node can promise about its instances."""

from __future__ import annotations

DOCUMENTATION = r"""
module: promises
short_description: What a node can promise about its instances
description:
  - Tries it in a unit as an instance has it - a memory limit, a private network, and so on (C(contract/promises.py)) - and notes the result below C(/run).
  - Once per boot; asked again it only reads the note. Nothing else is changed, so it does the same in a check.
options: {}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Find out what the node can promise
  promises: {}
"""

RETURN = r"""
promises: {description: "As C(Promises) of C(contract/promises.py) has it.", returned: success, type: dict}
"""

from ansible.module_utils import on_node  # makes contract and node importable
from ansible.module_utils.basic import AnsibleModule

from node.errors import NodeError
from node.helper import ask


def shipped() -> None:
    """Never called: see on_node."""
    from ansible.module_utils.node import errors, helper


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        found = ask("promises", {})
    except NodeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
