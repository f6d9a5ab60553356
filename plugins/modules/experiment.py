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
  folder: {description: Where names are looked up., type: path, required: true}
  workload: {description: The project's C(workload/)., type: path, required: true}
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
notes: {description: "Of O(config), each key that is not supported or means something else - C(file), C(key), C(value), C(becomes).", returned: success, type: list}
reference: {description: "What names the experiment in a saved plan: its name, or the path of its file.", returned: success, type: str}
saved: {description: The saved plan with its C(file); empty without O(plan)., returned: success, type: dict}
strategy: {description: "The search, as M(place) takes it; likewise C(time_limit_s), C(seed), C(repeat) and C(why).", returned: success, type: str}
release: {description: "C(hash) and C(src) of the code release, C(source) and C(commit) of the user's code.", returned: success, type: dict}
models: {description: "By instance - C(sha256), C(src), C(name), C(origin).", returned: success, type: dict}
replay: {description: "Of O(replay), what M(place) compares; empty otherwise.", returned: success, type: dict}
memory:
  description: What each instance needs by its model and context, and what it gets that declares nothing. GB are 2**30 bytes.
  returned: success; without instances whose model a check has not downloaded, or does not tell
  type: dict
  sample:
    a:
      predicted_gb: 5.3
      parts_gb: {weights: 4.1, repack_copy: 0.6, kv: 0.5, compute: 0.1, base: 0.02, workload: 0.02}
      offloaded_gb: 4.6
      ram_gb: 5.4
      gpu_memory_gb: 4.6
table: {description: "C(notes), and C(memory) of the instances that declare no C(ram_gb), for a person.", returned: success, type: str}
warnings: {description: "Declared sizes below what the model needs, a line each.", returned: success, type: list}
"""
