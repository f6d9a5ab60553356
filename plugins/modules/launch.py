#!/usr/bin/python
# Documentation of the action plugin launch.
from __future__ import annotations

DOCUMENTATION = r"""
module: launch
short_description: Start an instance on its node
description:
  - Hands the node the launch spec with the instance's credentials - the keys that it shares with its peers, which the controller keeps,
    and the secrets that it names - and waits until the instance is healthy (see M(instance)).
options:
  launch_spec: {description: "How to start it, as C(contract/launch_spec.py) has it.", type: dict, required: true}
  llama_cpp: {description: The folder of the node's build of llama.cpp., type: str, required: true}
  secrets: {description: "C(experiment_secrets): {name: value}; an instance is given those that it names.", type: dict, default: {}}
  start_timeout: {description: Seconds until it must be healthy., type: float, default: 120}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Start an instance
  launch: {launch_spec: "{{ instance_launch_spec }}", llama_cpp: /opt/llama.cpp/3f2a}
"""

RETURN = r"""
status: {description: The instance's status after., returned: always, type: str}
dir: {description: Its folder on the node., returned: always, type: str}
receipt: {description: "What holds for the instance on its node, as C(Receipt) of C(contract/receipt.py) has it.", returned: success, type: dict}
"""
