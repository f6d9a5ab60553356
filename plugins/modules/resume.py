#!/usr/bin/python
# Documentation of the action plugin resume.
from __future__ import annotations

DOCUMENTATION = r"""
module: resume
short_description: Find out how a run that has ended goes on
description:
  - C(ended) returns where the run's instances are, to be brought home and checkpointed. It fails when one is alive, or may be alive on a
    node that does not answer.
  - C(prepared) takes from the run's record what was launched, and for each instance its newest checkpoint, or the newest up to the one
    named by O(checkpoint). It fails for a checkpoint that is damaged, or of another model or code. No node is contacted.
options:
  state: {description: The step., choices: [ended, prepared], required: true, type: str}
  run_id: {description: "The run; V(latest) is the newest.", type: str, required: true}
  runs_dir: {description: Folder of all runs., type: path, required: true}
  gone: {description: "For C(ended), nodes of which it is known that nothing of the run acts there any more.", type: list, elements: str, default: []}
  stops: {description: "For C(ended), whether what is alive of the run is stopped next, and does not stand against it.", type: bool, default: false}
  cache: {description: "The controller's cache; for C(prepared).", type: path, default: ""}
  project: {description: "The project's clone; for C(prepared).", type: path, default: ""}
  checkpoint: {description: "The name of a checkpoint; empty - the newest.", type: str, default: ""}
  pins: {description: "C(placement) of the command line - which instance goes to which node.", type: raw, default: ""}
  signing_key: {description: "The user's SSH key; empty - those of ~/.ssh.", type: path, default: ""}
  allowed_signers: {description: "File of those whose signatures count; empty - the user alone.", type: path, default: ""}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: See whether the run has ended
  resume: {state: ended, run_id: latest, runs_dir: runs}
"""

RETURN = r"""
run_id: {description: The run., returned: when ended, type: str}
instances: {description: "Entries for C(add_host): C(name), C(instance_ref).", returned: when ended, type: list}
starts: {description: "By instance, how it is started again: C(epoch), C(checkpoint).", returned: when prepared, type: dict}
request: {description: What M(place) takes., returned: when prepared, type: dict}
table: {description: "Which instance goes on from what, for a person.", returned: when prepared, type: str}
"""
