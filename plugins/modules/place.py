#!/usr/bin/python
# Documentation of the action plugin place.
from __future__ import annotations

DOCUMENTATION = r"""
module: place
short_description: Decide which instance runs on which node, and say why
description:
  - Hands the inventory's nodes, as declared and as M(node_state) measured them (registered as C(node_probe) on each), and the
    experiment's instances to the Python package C(placement), and returns its plan.
  - Before that, of a C(requirements.lock) or C(requirements.txt) beside the user's code, pip on the controller makes a folder of wheels for
    each kind of node that answered. Nothing is built. A node for which a package has no wheel gets no instance. The same file gives the same
    packages again as long as they are in O(cache).
  - All or nothing. If an instance cannot be placed, the task fails and names for each instance and node the constraint that failed,
    then the smallest set of instances and constraints that cannot hold together, and the changes that would make it fit.
  - Decides only; nothing is changed anywhere, so it does the same in check mode. With C(--diff) it shows what would run where.
options:
  request:
    description:
      - The RV(ignore:request) that M(experiment) returned. With a saved plan or a run to replay in it, that is the plan, or the task fails
        with everything that has changed since.
    type: dict
    required: true
  cache: {description: "The controller's cache, for the packages that the code asks for.", type: path, required: true}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Place the minds
  place:
    request: "{{ preflight_checked.request }}"
    cache: ~/.cache/jarfleet
  register: placed
"""

RETURN = r"""
nodes: {description: "Entries for C(add_host): C(name) of each node that takes part, C(artifacts), what has to be sent there, and C(built_by), the node that asks for its build of llama.cpp.", returned: when there is a plan, type: list}
request: {description: "The request, with the packages of each node.", returned: when there is a plan, type: dict}
warnings: {description: "The nodes for which a package has no wheel, with what pip says.", returned: when there are any, type: list}
plan:
  description: The plan, in the form that C(python -m placement plan --format json) prints.
  returned: when there is one
  type: dict
  contains:
    assignments: {description: "The node of each instance.", type: dict, returned: always}
    instances:
      description: "Of each instance and node the score by its components, or C(rejected), the constraints that failed with their numbers."
      type: dict
      returned: always
    counterfactuals:
      description:
        - "Of each instance and node asked for with C(-e why): C(feasible), whether a plan with it there exists (null: not known); C(score),
          that plan's score; C(loss_at_least) and C(loss_at_most), by how many points it is worse (equal: exact); C(moved), the others
          that it puts elsewhere; C(pin_lifted), a pin of the instance that did not count; C(conflict), why there is none;
          C(moves_with) and C(more_ram_gb), single changes with which the best plan puts it there; C(answered), whether all of that
          came out in time; C(says), all of it for a person."
      type: dict
      returned: with C(-e why)
  sample: {strategy: optimal, assignments: {a: jetson, b: rpi1}, score: 110.0, bound: 110.0, optimal: true}
file:
  description: "The content of a plan file: the plan and all that it depends on. Written to a file, M(experiment) reads it."
  returned: when there is a plan
  type: str
changes:
  description: "What has changed since a plan was saved, or a run was recorded: C(rpi1: status was HEALTHY, is UNAVAILABLE)."
  returned: when a saved plan cannot be applied, or a run not be replayed
  type: list
table: {description: "The packages of each kind of node, and the plan, for a person.", returned: when there is one, type: str}
rejections: {description: "For each refused instance and node, the constraints that failed.", returned: when there is none, type: dict}
conflict:
  description:
    - "The smallest set that cannot hold together: C(instances), C(constraints) (each with C(constraint), its C(instances) or C(node), and
      C(says)), C(nodes), what each C(has) and how many of the instances it C(takes); C(smallest), whether that is proven; C(irreducible),
      whether without any part of it a plan would exist; C(says), all of it for a person."
  returned: when there is no plan, and that is proven
  type: dict
remedies:
  description:
    - "Single changes with each of which a plan exists, the smallest first. C(change) is one of C(status), C(pin), C(anti_affinity),
      C(same_type), C(node_type), C(gpu), C(ram_gb), C(gpu_memory_gb), C(node_ram), C(slots), C(ports), C(without), C(strategy), with the
      C(instance), C(instances) or C(node), and C(to), C(to_gb), C(more_gb) or C(less_gb); C(alike), others of which the same is true;
      C(says), for a person."
  returned: when there is no plan, and that is proven
  type: list
  elements: dict
  sample: [{change: node_ram, node: rpi2, to_gb: 9.0, more_gb: 1.0, alike: [], says: rpi2 with 1.0 GB more RAM (9.0)}]
untried:
  description: How many changes were not tried in the time given.
  returned: when there is no plan, and that is proven
  type: int
faults: {description: What is wrong with the input., returned: when it is wrong, type: list}
"""
