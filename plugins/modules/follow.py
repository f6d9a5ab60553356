#!/usr/bin/python
# Documentation of the action plugin follow.
from __future__ import annotations

DOCUMENTATION = r"""
module: follow
short_description: Print an instance's journal as it grows
description:
  - Reads M(journal) again and again. A broken connection is taken up again where it broke, no line is lost or doubled.
options:
  run_id: {description: The run., type: str, required: true}
  id: {description: The instance., type: str, required: true}
  work_dir: {description: The node's C(remote_work_dir)., type: str, required: true}
  lines: {description: How many lines to start with., type: int, default: 100}
  follow: {description: Go on until the instance has ended., type: bool, default: true}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Follow
  follow: {run_id: "{{ instance.run_id }}", id: a, work_dir: "{{ instance.work_dir }}"}
"""

RETURN = r"""
lines: {description: How many lines were printed., returned: success, type: int}
"""
