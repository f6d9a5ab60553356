#!/usr/bin/python
# Documentation of the action plugin experiment.
from __future__ import annotations

DOCUMENTATION = r"""
module: experiment
short_description: Read and check everything a user wrote
description:
  - Loads the experiment file, the inventory's nodes, the pins, the user's code and the models, on the controller only.
  - Fails with every fault at once, a line each - file, key, what is wrong. No node is contacted.
  - Estimates from each model's file what memory its instances need; that is the size of those that declare no C(ram_gb), and a
    declared size below it is warned about.
  - Stages the code release and makes sure that the models are there and are the ones declared; in check mode nothing is written.
options:
  name: {description: The experiment's name or a path to its file; may be left out beside O(plan)., type: str, default: ""}
  project: {description: "The project's clone: its C(experiments/), and its packages that nodes need.", type: path, required: true}
  cache: {description: The controller's cache., type: path, required: true}
  config:
    description:
      - Config files of the original, instead of O(name); a path, several with commas, or a list.
      - The experiment that they make is written to C(experiments/) of the cache, also in check mode, under a name by its content.
    type: raw
    default: ""
  pins: {description: "Pins such as C(a:jetson,b:rpi1), or a mapping.", type: raw, default: ""}
  plan: {description: "A plan file, to be applied as it is; it names its experiment.", type: path, default: ""}
  strategy: {description: The search of M(place)., type: str, default: ""}
  time_limit: {description: The seconds that it may take., type: raw, default: ""}
  seed: {description: The seed of C(design.randomize)., type: raw, default: ""}
  repeat: {description: Which repeat of C(design.counterbalance) this is., type: raw, default: ""}
  why: {description: "Questions about the plan, such as C(b) or C(b:rpi2).", type: raw, default: ""}
  code_src: {description: The user's own code - a folder or a git URL., type: str, default: ""}
  code_ref: {description: "Branch, tag or commit of a git URL.", type: str, default: ""}
  command: {description: What an instance runs instead of the built-in workload; a list of words., type: raw, default: []}
  default_model: {description: The model of instances that name none., type: dict, default: {}}
  replay: {description: What M(replay) took from a run's record; it stands for all that names an experiment or decides., type: dict, default: {}}
  secrets: {description: The names of the secrets that were given in C(experiment_secrets)., type: list, elements: str, default: []}
  workload: {description: Settings of the workload that replace those of the file., type: raw, default: ""}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Check everything
  experiment:
    name: split_brain
    project: .
    cache: ~/.cache/jarfleet
"""

RETURN = r"""
faults: {description: "Each fault, a line.", returned: on failure, type: list}
request: {description: "What was asked for, as C(fleet/intake/request.py) has it: M(place), M(shipment) and M(run_record) work from it.", returned: success, type: dict}
notes: {description: "Of O(config), each key that is not supported or means something else - C(file), C(key), C(value), C(becomes).", returned: success, type: list}
table: {description: "C(notes), what the instances get that declare no C(ram_gb), and which code travels, for a person.", returned: success, type: str}
warnings: {description: "Declared sizes below what the model needs, and code that is large, a line each.", returned: success, type: list}
"""
