#!/usr/bin/python
# Documentation of the action plugin place.
from __future__ import annotations

DOCUMENTATION = r"""
module: place
short_description: Decide which instance runs on which node, and say why
description:
  - Hands the inventory's nodes, as declared and as M(node_state) measured them (registered as C(node_probe) on each), and the
    experiment's instances to the Python package C(placement), and returns its plan.
  - All or nothing. If an instance cannot be placed, the task fails and names for each instance and node the constraint that failed.
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
  checked:
    description:
      - What M(experiment) returned. It is needed to save the plan, and to apply a saved one, which is then the plan, or the
        task fails with everything that has changed since.
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
"""

RETURN = r"""
plan:
  description: The plan, in the form that C(python -m placement plan --format json) prints.
  returned: when there is one
  type: dict
  sample: {strategy: optimal, assignments: {a: jetson, b: rpi1}, score: 110.0, bound: 110.0, optimal: true}
file:
  description: "The content of a plan file: the plan and all that it depends on. Written to a file, M(experiment) reads it."
  returned: when there is a plan
  type: str
changes:
  description: "What has changed since a saved plan was saved: C(rpi1: status was HEALTHY, is UNAVAILABLE)."
  returned: when a saved plan cannot be applied
  type: list
table: {description: The plan for a person., returned: when there is one, type: str}
rejections: {description: "For each refused instance and node, the constraints that failed.", returned: when there is none, type: dict}
faults: {description: What is wrong with the input., returned: when it is wrong, type: list}
"""
