#!/usr/bin/python
# Documentation of the action plugin export.
from __future__ import annotations

DOCUMENTATION = r"""
module: export
short_description: Write a run's merged database as Parquet or CSV files
description:
  - Writes a file for each table of C(experiments.db) into the folder C(export/) of the run, with every row. A file that is already so stays untouched.
requirements: ["pyarrow, of jarfleet's extra C(analysis)"]
options:
  run_id: {description: "The run; V(latest) is the newest.", type: str, required: true}
  runs_dir: {description: Folder of all runs., type: path, required: true}
  format: {description: What is written., type: str, default: parquet, choices: [parquet, csv]}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Export the newest run
  export: {run_id: latest, runs_dir: runs, format: csv}
"""

RETURN = r"""
path: {description: The folder., returned: success, type: str}
files: {description: The files that are new or different., returned: success, type: list}
rows: {description: How many rows each file has., returned: success, type: dict}
table: {description: The same for a person., returned: success, type: str}
"""
