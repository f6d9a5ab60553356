#!/usr/bin/python
# Documentation of the action plugin resume.
from __future__ import annotations

DOCUMENTATION = r"""
module: resume
short_description: Find out how a run goes on from its checkpoints
description:
  - Takes from the run's record what was launched. All of the run goes on, or, with O(instances), these alone (and those of their peers
    that have ended by themselves, of which they may need something again) while the others live on.
  - It fails when something that would go on is alive, or may be alive on a node that does not answer; when the others cannot live on, as
    one that has no private network and cannot be told a new address; and for a checkpoint that is damaged, or of another model or code.
    No node is contacted.
options:
  run_id: {description: "The run; V(latest) is the newest.", type: str, required: true}
  runs_dir: {description: Folder of all runs., type: path, required: true}
  cache: {description: The controller's cache., type: path, required: true}
  project: {description: The project's clone., type: path, required: true}
  instances: {description: "The instances that go on; empty - all.", type: list, elements: str, default: []}
  else_all: {description: "All of the run goes on where O(instances) cannot go on alone.", type: bool, default: false}
  stops: {description: "What is alive of what goes on is stopped next, and does not stand against it.", type: bool, default: false}
  gone: {description: "Nodes of which it is known that nothing of the run acts there any more.", type: list, elements: str, default: []}
  checkpoint: {description: "The name of a checkpoint; empty - the newest.", type: str, default: ""}
  pins: {description: "C(placement) of the command line - which instance goes to which node.", type: raw, default: ""}
  signing_key: {description: "The user's SSH key; empty - those of ~/.ssh.", type: path, default: ""}
  allowed_signers: {description: "File of those whose signatures count; empty - the user alone.", type: path, default: ""}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: See how the newest run goes on
  resume: {run_id: latest, runs_dir: runs, cache: "{{ jarfleet_cache }}", project: "{{ playbook_dir }}/.."}
"""

RETURN = r"""
run_id: {description: The run., returned: success, type: str}
request: {description: What M(place) takes., returned: success, type: dict}
instances: {description: "What is left on nodes of what goes on, as entries for C(add_host) - C(name), C(instance_ref).", returned: success, type: list}
table: {description: "Which instance goes on from what, for a person.", returned: success, type: str}
"""
