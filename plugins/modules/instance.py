#!/usr/bin/python
"""Ansible module: start, redirect, stop or collect one instance on its node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instance
short_description: Start, redirect, stop or collect one instance
description:
  - C(started) takes the node's slot, RAM, GPU memory and ports under a lock, writes the instance's description and its units, starts them and waits
    until what O(launch_spec) says must answer does, and the workload runs. What fails to start is stopped again.
  - C(redirected) lets the ways between an instance that lives on and its peers lead where O(launch_spec) says, since a peer has moved.
  - C(stopped) stops the instance, gracefully and then by force as its units say, and writes down that a person did.
  - C(collected) makes a consistent copy of its database, its journal, its exit log and its stream for the controller to fetch, and
    removes the units of an instance that has ended. Its data stays, and so does the stream relay of one that is observed, until it is C(stopped).
options:
  state: {description: What to do., choices: [started, redirected, stopped, collected], required: true, type: str}
  launch_spec: {description: "How to start it, as C(contract/launch_spec.py) has it; for C(started) and C(redirected).", type: dict}
  instance_ref: {description: "Which instance it is, as C(InstanceRef) of C(contract/description.py) has it; for C(stopped) and C(collected).", type: dict}
  credentials:
    description: "Keys that it shares with its peers, and secrets, as C(InstanceCredentials) of C(contract/credentials.py) has them; for C(started)."
    type: json
  llama_cpp: {description: The folder of the node's build of llama.cpp; for C(started)., type: path}
  start_timeout: {description: Seconds until it must be healthy., type: float, default: 120}
  slot: {description: With the slot of its llama-server; for C(collected)., type: bool, default: false}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Stop an instance
  instance: {state: stopped, instance_ref: "{{ instance_ref }}"}
"""

RETURN = r"""
status: {description: The instance's status after., returned: always, type: str}
dir: {description: Its folder on the node., returned: always, type: str}
receipt: {description: "What holds for the instance on its node, as C(Receipt) of C(contract/receipt.py) has it.", returned: when it was started, type: dict}
faults: {description: "What could not be collected, and why.", returned: success, type: list}
slot: {description: Whether the slot of its llama-server is among the copies., returned: when it was collected, type: bool}
restored:
  description: "What came of giving its llama-server a slot, as C(Restored) of C(contract/slot.py) has it."
  returned: when it was started with one
  type: dict
spare: {description: "Whether some copies are in memory, since the disk is full.", returned: success, type: bool}
"""

import json
from typing import Any, Dict, Mapping

from ansible.module_utils import on_node  # makes contract and node importable
from ansible.module_utils.basic import AnsibleModule

from node.errors import NodeError, StartFailed
from node.helper import ask

VERBS = {"started": "start", "redirected": "redirect", "stopped": "stop", "collected": "collect"}


def asked(given: Dict[str, Any]) -> Mapping[str, Any]:
    """Return what the node's program is given."""
    if given["state"] in ("stopped", "collected"):
        collects = {"slot": given["slot"]} if given["state"] == "collected" else {}
        return {"instance_ref": given["instance_ref"], **collects}
    if given["state"] == "redirected":
        return {"launch_spec": given["launch_spec"]}
    credentials = {"credentials": json.loads(given["credentials"])} if given["credentials"] else {}
    return {**{key: given[key] for key in ("launch_spec", "llama_cpp", "start_timeout")}, **credentials}


def shipped() -> None:
    """Never called: see on_node."""
    from ansible.module_utils.node import errors, helper


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["started", "redirected", "stopped", "collected"]},
            "launch_spec": {"type": "dict"},
            "instance_ref": {"type": "dict"},
            "credentials": {"type": "json", "no_log": True},
            "llama_cpp": {"type": "path"},
            "start_timeout": {"type": "float", "default": 120},
            "slot": {"type": "bool", "default": False},
        },
        required_if=[
            ("state", "started", ("launch_spec", "llama_cpp")),
            ("state", "redirected", ("launch_spec",)),
            ("state", "stopped", ("instance_ref",)),
            ("state", "collected", ("instance_ref",)),
        ],
        supports_check_mode=True,
    )
    try:
        done = ask(VERBS[module.params["state"]], asked(module.params), module.check_mode)
    except StartFailed as error:
        module.fail_json(msg=str(error), status="FAILED")
    except NodeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**done)


if __name__ == "__main__":
    main()
