#!/usr/bin/python
# Documentation of the action plugin collect.
from __future__ import annotations

DOCUMENTATION = r"""
module: collect
short_description: Bring an instance's log and database home
description:
  - Has the node copy the database by SQLite's backup and export the journal, the exit log and the stream (see M(instance)), and
    fetches them into C(runs/<run_id>/logs) and C(runs/<run_id>/db). An instance that runs goes on undisturbed.
options:
  instance_ref: {description: "Which instance it is, as C(InstanceRef) of C(contract/description.py) has it.", type: dict, required: true}
  runs_dir: {description: Folder of all runs., type: path, required: true}
  of_epoch: {description: "The epoch that is there, where it is an earlier one: it comes home under names of its own, and is not merged. 0 - the newest.", type: int, default: 0}
  slot: {description: "With the slot of its llama-server, saved just now where that runs.", type: bool, default: false}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Bring it home
  collect: {instance_ref: "{{ instance_ref }}", runs_dir: runs}
"""

RETURN = r"""
status: {description: "The instance's status, as far as it could be read.", returned: the node answered, type: str}
faults: {description: "What could not be brought home, and why.", returned: the node answered, type: list}
slot: {description: Whether a slot came home., returned: success, type: bool}
files: {description: "What was new, relative to the run's folder.", returned: success, type: list}
"""
