#!/usr/bin/python
# Documentation of the action plugin run_record.
from __future__ import annotations

DOCUMENTATION = r"""
module: run_record
short_description: Keep the record of a run on the controller
description:
  - C(created) makes the run's folder with manifest and plan, and returns one entry an instance for C(add_host). In check mode it only returns.
    Of a run that goes on it keeps what came home of the epochs before under names of its own, and takes back from the merged database what
    the checkpoints do not have.
  - C(moves) writes down that the instances of a run that goes on are stopped now where they are.
  - C(launched) writes down which instances started and which did not, and which llama.cpp each node runs.
  - Both sign the manifest with the user's SSH key, or warn why they cannot. C(signed) signs that of a run that has no signature.
  - C(concluded) sums up a run that somebody else has collected, as its record says.
  - C(collected) merges the fetched databases into C(experiments.db), writes C(report.html), or warns why it cannot, and sums the run up.
options:
  state: {description: The step., choices: [created, moves, launched, collected, concluded, signed], required: true, type: str}
  runs_dir: {description: Folder of all runs., type: path, required: true}
  run_id: {description: The run; C(created) gives it its id., type: str, default: ""}
  request: {description: "The RV(ignore:request) that M(experiment), M(replay) or M(resume) returned.", type: dict, default: {}}
  plan: {description: What M(place) decided., type: dict, default: {}}
  detached: {description: "The playbook ends with the launch: say which commands go on with the run.", type: bool, default: false}
  signing_key: {description: "The SSH key that signs, or its public half when an agent holds it; empty - the first of ~/.ssh.", type: path, default: ""}
  allowed_signers: {description: "File of those whose signatures count, as ssh-keygen(1) describes it; empty - the user alone.", type: path, default: ""}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Create the record
  run_record: {state: created, runs_dir: runs, request: "{{ preflight_checked.request }}", plan: "{{ placed.plan }}"}
"""

RETURN = r"""
run_id: {description: The run., returned: when created, type: str}
path: {description: The run's folder., returned: when created or collected, type: str}
instances: {description: "Entries for C(add_host): C(name), C(launch_spec), C(instance_ref).", returned: when created, type: list}
nodes: {description: "Entries for C(add_host): C(name) of each node that is sent checkpoints, and C(artifacts), which.", returned: when created, type: list}
stays: {description: "Entries as C(instances) for those that live on while others of the run are started anew.", returned: when created, type: list}
failed_instances: {description: Instances that did not start, with the reason., returned: when launched, type: dict}
rejection: {description: "Why the run is rejected, a line an instance that did not start; empty when all did.", returned: when launched, type: str}
watched_by: {description: "Who is asked how the run fares - C(nodes), C(record) where the control loop looks after it, C(nobody).", returned: when created, type: str}
statuses: {description: Status of each instance., returned: when collected or concluded, type: dict}
memory: {description: "By instance, what C(memory.json) says - predicted and measured GB (2**30 bytes).", returned: when collected, type: dict}
bad: {description: "Those that failed or were lost, with the status and the reason.", returned: when collected, type: dict}
relays: {description: "Of a run that is over, the hosts in C(instances) whose stream relays are to be closed.", returned: when collected, type: list}
table: {description: "The closing summary for a person; or what was signed.", returned: when collected or signed, type: str}
warnings: {description: "Why the manifest is not signed, or the report not written.", returned: always, type: list}
"""
