#!/usr/bin/python
# Documentation of the action plugin watch.
from __future__ import annotations

DOCUMENTATION = r"""
module: watch
short_description: Follow a run's instances on one node until they have ended
description:
  - Waits on the node itself, so a change is seen at once and an idle wait costs one round trip an interval.
  - A connection that breaks is taken up again; the instances do not notice. Changes go to the run's C(events.jsonl).
options:
  run_id: {description: The run., type: str, required: true}
  work_dir: {description: The node's C(remote_work_dir)., type: str, required: true}
  runs_dir: {description: Folder of all runs., type: path, required: true}
  interval_seconds: {description: The node's health is read at least this often., type: float, default: 30}
  duration_seconds: {description: Stop watching after this; the instances run on. 0 is until they have ended., type: float, default: 0}
  lost_seconds: {description: A node silent for this long is given up., type: float, default: 60}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Watch
  watch: {run_id: "{{ run_id }}", work_dir: "{{ remote_work_dir }}", runs_dir: runs}
"""

RETURN = r"""
statuses: {description: Status of each of the run's instances on this node., returned: success, type: dict}
lost: {description: Whether the node was given up., returned: success, type: bool}
"""
