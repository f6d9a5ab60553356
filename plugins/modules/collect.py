#!/usr/bin/python
# Documentation of the action plugin collect.
from __future__ import annotations

DOCUMENTATION = r"""
module: collect
short_description: Bring an instance's log and database home
description:
  - Has the node copy the database by SQLite's backup and export the journal, the ledger of ends and the stream (see M(instance)), and
    fetches them into C(runs/<run_id>/logs) and C(runs/<run_id>/db). An instance that runs goes on undisturbed.
options:
  run_id: {description: The run., type: str, required: true}
  id: {description: The instance., type: str, required: true}
  work_dir: {description: The node's C(remote_work_dir)., type: str, required: true}
  owner: {description: The user that the instance runs as., type: str, required: true}
  runs_dir: {description: Folder of all runs., type: path, required: true}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Collect an instance
  collect: {run_id: "{{ instance.run_id }}", id: a, work_dir: "{{ instance.work_dir }}", owner: pi, runs_dir: runs}
"""

RETURN = r"""
status: {description: The instance's status., returned: success, type: str}
files: {description: "What was new, relative to the run's folder.", returned: success, type: list}
"""
