#!/usr/bin/python
# Documentation of the action plugin checkpoint.
from __future__ import annotations

DOCUMENTATION = r"""
module: checkpoint
short_description: Keep what came home of a run's instances, to resume them from it
description:
  - Keeps the database and the exit log that M(collect) brought home of each instance, with their sha256, the epoch, the model and the code.
  - An instance that has nothing new since its last checkpoint gets no other one. Fails, and keeps nothing, when one did not come home.
options:
  run_id: {description: The run., type: str, required: true}
  runs_dir: {description: Folder of all runs., type: path, required: true}
  hosts: {description: The hosts of its instances that were collected., type: list, elements: str, required: true}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Keep it
  checkpoint: {run_id: "{{ run }}", runs_dir: runs, hosts: "{{ groups.instances }}"}
"""

RETURN = r"""
stores: {description: "The node that keeps a copy of the record, C(failover.checkpoint_store), if any.", returned: success, type: list}
table: {description: "The newest checkpoint of each instance, for a person.", returned: success, type: str}
"""
