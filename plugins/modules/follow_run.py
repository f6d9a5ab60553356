#!/usr/bin/python
# Documentation of the action plugin follow_run.
from __future__ import annotations

DOCUMENTATION = r"""
module: follow_run
short_description: Tell what happens to a run that the control loop looks after
description:
  - Prints the run's events as they come, until the loop has brought the run home, or for O(duration_seconds). No node is contacted.
options:
  run_id: {description: The run., type: str, required: true}
  runs_dir: {description: Folder of all runs., type: path, required: true}
  duration_seconds: {description: "End after this, whatever the run does; 0 - with the run.", type: float, default: 0}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Follow the run
  follow_run: {run_id: "{{ record_created.run_id }}", runs_dir: runs}
"""

RETURN = r"""
over: {description: Whether the run is at home., returned: success, type: bool}
"""
