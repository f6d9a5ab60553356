#!/usr/bin/python
# Documentation of the action plugin place.
from __future__ import annotations

DOCUMENTATION = r"""
module: place
short_description: Decide which instance runs on which node, and say why
description:
  - Hands the inventory's nodes, as declared and as M(node_state) measured them (registered as C(node_probe) on each), and the
    experiment's instances to the Python package C(placement), and returns its plan.
  - All or nothing. If an instance cannot be placed, the task fails and names for each instance and node the constraint that failed,
    then the smallest set of instances and constraints that cannot hold together, and the changes that would make it fit.
  - Decides only; nothing is changed anywhere, so it does the same in check mode. With C(--diff) it shows what would run where.
options:
  experiment: {description: The experiment's file., type: path, required: true}
  pins: {description: "Binding assignments such as C(a:jetson,b:rpi1), or a mapping.", type: raw, default: ""}
  strategy:
    description: The search. V(optimal) finds the best plan and proves it; V(greedy) is fast at any size.
    type: str
    choices: [greedy, optimal]
    default: optimal
  time_limit_s:
    description: After so many seconds V(optimal) answers with the best plan so far and the gap that is left.
    type: float
    default: 20.0
  seed:
    description: Which of the equally good plans C(design.randomize) of the experiment draws. Drawn itself when left out.
    type: int
  repeat: {description: Which repeat of C(design.counterbalance) of the experiment this is; 1 when left out., type: int}
  why:
    description:
      - What if C(b) were on another node, or C(b:rpi2), on this one. Several with commas, or a list. Answered by solving again, in
        at most O(time_limit_s) together.
    type: raw
    default: ""
  checked:
    description:
      - What M(experiment) returned. It is needed for the sizes of instances that declare no C(ram_gb), to save the plan, and to
        apply a saved one or that of a replay, which is then the plan, or the task fails with everything that has changed since.
    type: dict
    default: {}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Place the minds
  place:
    experiment: experiments/split_brain.yml
    pins: b:rpi2
  register: placed

- name: Place the minds and tell what if b were on another node
  place:
    experiment: experiments/split_brain.yml
    why: b
  register: placed
"""

RETURN = r"""
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
        - "Of each instance and node asked for with O(why): C(feasible), whether a plan with it there exists (null: not known); C(score),
          that plan's score; C(loss_at_least) and C(loss_at_most), by how many points it is worse (equal: exact); C(moved), the others
          that it puts elsewhere; C(pin_lifted), a pin of the instance that did not count; C(conflict), why there is none;
          C(moves_with) and C(more_ram_gb), single changes with which the best plan puts it there; C(answered), whether all of that
          came out in time; C(says), all of it for a person."
      type: dict
      returned: when O(why) is given
  sample: {strategy: optimal, assignments: {a: jetson, b: rpi1}, score: 110.0, bound: 110.0, optimal: true}
file:
  description: "The content of a plan file: the plan and all that it depends on. Written to a file, M(experiment) reads it."
  returned: when there is a plan
  type: str
changes:
  description: "What has changed since a plan was saved, or a run was recorded: C(rpi1: status was HEALTHY, is UNAVAILABLE)."
  returned: when a saved plan cannot be applied, or a run not be replayed
  type: list
table: {description: The plan for a person., returned: when there is one, type: str}
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
