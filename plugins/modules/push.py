#!/usr/bin/python
# Documentation of the action plugin push.
from __future__ import annotations

DOCUMENTATION = r"""
module: push
short_description: Send immutable artifacts to a node, each once
description:
  - Asks the node which of the artifacts it lacks, sends those by rsync over Ansible's own connection with progress, and has the
    node verify and install them (see M(artifact)).
  - Runs on the controller and on the node. In check mode it only asks.
options:
  work_dir: {description: The node's C(remote_work_dir)., type: str, required: true}
  owner: {description: The user that connects., type: str, required: true}
  artifacts:
    description: The artifacts, as the items of M(artifact), each with C(src) on the controller.
    type: list
    elements: dict
    required: true
    suboptions:
      src: {description: The file or folder on the controller., type: path}
      link_dest: {description: A folder on the node whose equal files are hard-linked instead of sent., type: path}
      name: {description: What a person calls it., type: str, required: true}
      dest: {description: Where it is to be on the node., type: path, required: true}
      link: {description: A symbolic link that names the newest., type: path}
      sha256: {description: Of a single file., type: str}
      root_owned: {description: Belongs to root from then on., type: bool}
      verify: {description: Commands that must succeed on the node before it counts., type: list, elements: list}
      expect: {description: What they must print., type: str}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Send the model
  push:
    work_dir: "{{ remote_work_dir }}"
    owner: "{{ ssh_user }}"
    artifacts: [{name: model, src: ~/models/m.gguf, dest: "{{ remote_work_dir }}/models/ab12.gguf", sha256: ab12}]
"""

RETURN = r"""
sent: {description: Name and place of everything that was (or would be) sent., returned: always, type: dict}
damaged: {description: Those of them that were there and were not what their sha256 says., returned: when there are any, type: list}
"""
