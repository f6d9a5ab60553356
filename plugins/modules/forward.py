#!/usr/bin/python
# Documentation of the action plugin forward.
from __future__ import annotations

DOCUMENTATION = r"""
module: forward
short_description: Open an instance's llama-server on the controller's loopback
description:
  - Listens on 127.0.0.1 of the controller. Each connection is carried over SSH, with Ansible's own connection settings, to the node's program,
    which enters the instance's network as root and connects to its llama-server there.
options:
  instance_ref: {description: "Which instance it is, as C(InstanceRef) of C(contract/description.py) has it.", type: dict, required: true}
  local_port: {description: "The port here; 0 takes a free one.", type: int, default: 0}
  seconds: {description: Close it after this; 0 holds it open., type: float, default: 0}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Reach a mind's llama-server
  forward: {instance_ref: "{{ instance_ref }}", local_port: 8080}
"""

RETURN = r"""
url: {description: Where it answers., returned: success, type: str}
"""
