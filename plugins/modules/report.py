#!/usr/bin/python
# Documentation of the action plugin report.
from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Write the report page of a run
description:
  - Makes C(report.html) of what lies in the run's folder on the controller. The same folder gives the same bytes.
options:
  run_id: {description: "The run; V(latest) is the newest.", type: str, required: true}
  runs_dir: {description: Folder of all runs., type: path, required: true}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Write the report
  report: {run_id: latest, runs_dir: runs}
"""

RETURN = r"""
path: {description: The page., returned: success, type: str}
table: {description: Where it lies, for a person., returned: success, type: str}
"""
