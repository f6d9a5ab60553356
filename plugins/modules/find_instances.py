#!/usr/bin/python
# Documentation of the action plugin find_instances.
from __future__ import annotations

DOCUMENTATION = r"""
module: find_instances
short_description: Find the instances of a run on the nodes
description:
  - Reads what M(node_state) measured on each node (registered as C(node_probe)), and returns one entry an instance for C(add_host).
  - The nodes are the truth. A run that this controller does not know gets a record made from what the nodes say.
options:
  run_id: {description: "The run, or C(latest).", type: str, default: latest}
  instance: {description: Only this instance., type: str, default: ""}
  runs_dir: {description: "The records: the newest run may be in them only. One that is on the nodes and has no record gets one.", type: path, default: ""}
  earlier: {description: What is left alive of instances that were resumed elsewhere since, and nothing else., type: bool, default: false}
  acts: {description: "The run is going to be changed: while a node does not answer, C(latest) is refused.", type: bool, default: false}
  report: {description: "C(run) finds the run. C(nodes) and C(all) only tell how the nodes are, and all that they hold.", choices: [run, nodes, all], type: str, default: run}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Find the newest run
  find_instances: {}
  register: found
"""

RETURN = r"""
run_id: {description: The run., returned: for a run, type: str}
instances: {description: "Entries for C(add_host): C(name), C(instance_ref).", returned: for a run, type: list}
silent: {description: Nodes that did not answer., returned: for a run, type: list}
nodes: {description: Status of each node., returned: for a report, type: dict}
unwell: {description: "Nodes that are neither HEALTHY nor in MAINTENANCE, with their status.", returned: for a report, type: dict}
found: {description: Every instance on every node., returned: for a report, type: list}
table: {description: What was found for a person., returned: always, type: str}
"""
