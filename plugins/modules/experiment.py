#!/usr/bin/python
# Documentation of the action plugin experiment.
from __future__ import annotations

DOCUMENTATION = r"""
module: experiment
short_description: Read and check everything a user wrote
description:
  - Loads the experiment file, the inventory's nodes, the pins, the user's code and the models, on the controller only.
  - Fails with every fault at once, a line each - file, key, what is wrong. No node is contacted.
  - Stages the code release and makes sure that the models are there and are the ones declared; in check mode nothing is written.
options:
  name: {description: The experiment's name or a path to its file., type: str, required: true}
  folder: {description: Where names are looked up., type: path, required: true}
  workload: {description: The project's C(workload/)., type: path, required: true}
  cache: {description: The controller's cache., type: path, required: true}
  pins: {description: "Pins such as C(a:jetson,b:rpi1), or a mapping.", type: raw, default: ""}
  code_src: {description: The user's own code - a folder or a git URL., type: str, default: ""}
  code_ref: {description: "Branch, tag or commit of a git URL.", type: str, default: ""}
  command: {description: What an instance runs instead of the built-in workload; a list of words., type: raw, default: []}
  default_model: {description: The model of instances that name none., type: dict, default: {}}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Check everything
  experiment:
    name: split_brain
    folder: experiments
    workload: workload
    cache: ~/.cache/jarfleet
"""

RETURN = r"""
faults: {description: "Each fault, a line.", returned: on failure, type: list}
path: {description: The experiment's file., returned: success, type: str}
release: {description: "C(hash) and C(src) of the code release.", returned: success, type: dict}
models: {description: "By instance - C(sha256), C(src), C(name).", returned: success, type: dict}
"""
