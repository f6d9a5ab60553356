#!/usr/bin/python
# Documentation of the action plugin service.
from __future__ import annotations

DOCUMENTATION = r"""
module: service
short_description: Take a node out of service, or put it back
description:
  - The word is kept on the controller for the inventory's C(cluster_name); no check overrules it, and every plan heeds it.
  - C(maintenance) - nothing new goes to the node. C(drained) - and the control loop moves off it what it looks after. C(in_service) takes
    either back.
  - C(empty) waits until nothing is alive on the node, and tells what is. It fails where something cannot be moved, with the reason.
options:
  state: {description: The step., choices: [maintenance, drained, in_service, empty], required: true, type: str}
  node: {description: The node., type: str, required: true}
  work_dir: {description: "For C(empty), the node's C(remote_work_dir).", type: path, default: ""}
  seconds: {description: "For C(empty), wait no longer than this; 0 - as long as it takes.", type: float, default: 0}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Take the node out of service
  service: {state: maintenance, node: rpi1}
"""

RETURN = r"""
before: {description: The word that it had before; empty - none., returned: "unless O(state=empty)", type: str}
"""
