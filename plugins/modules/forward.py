#!/usr/bin/python
# Documentation of the action plugin forward.
from __future__ import annotations

DOCUMENTATION = r"""
module: forward
short_description: Open an instance's port on the controller's loopback
description:
  - Runs C(ssh -L) from 127.0.0.1 of the controller to 127.0.0.1 of the node, with Ansible's own connection settings, until interrupted.
options:
  port: {description: The port on the node., type: int, required: true}
  observed: {description: "Whether the instance is observed. Its network is its own then, and this fails.", type: bool, default: false}
  local_port: {description: "The port here; 0 takes a free one.", type: int, default: 0}
  seconds: {description: Close it after this; 0 holds it open., type: float, default: 0}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Reach a mind's llama-server
  forward: {port: 9001, local_port: 8080}
"""

RETURN = r"""
url: {description: Where it answers., returned: success, type: str}
"""
