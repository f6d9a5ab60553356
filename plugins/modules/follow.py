#!/usr/bin/python
# Documentation of the action plugin follow.
from __future__ import annotations

DOCUMENTATION = r"""
module: follow
short_description: Print an instance's journal as it grows
description:
  - Reads M(journal) again and again. A broken connection is taken up again where it broke, no line is lost or doubled.
options:
  instance_ref: {description: "Which instance it is, as C(InstanceRef) of C(contract/description.py) has it.", type: dict, required: true}
  lines: {description: How many lines to start with., type: int, default: 100}
  follow: {description: Go on until the instance has ended., type: bool, default: true}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Follow
  follow: {instance_ref: "{{ instance_ref }}"}
"""

RETURN = r"""
lines: {description: How many lines were printed., returned: success, type: int}
"""
