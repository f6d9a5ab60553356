#!/usr/bin/python
# Documentation of the action plugin packages.
from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Resolve the packages that the user's code asks for
description:
  - Of a C(requirements.lock) or C(requirements.txt) beside the user's code, pip on the controller makes a folder of wheels for each
    kind of node that answered (see M(node_state)), in O(cache). M(push) sends it. Nothing is built, and no node needs pip or an index.
  - The same file gives the same packages again as long as they are in O(cache).
  - A node for which a package has no wheel gets no instance.
options:
  request: {description: "What was asked for, as M(experiment) returned it.", type: dict, required: true}
  cache: {description: The controller's cache., type: path, required: true}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Resolve the packages
  packages:
    request: "{{ preflight_checked.request }}"
    cache: ~/.cache/jarfleet
"""

RETURN = r"""
request: {description: "The request, with the packages of each node.", returned: success, type: dict}
table: {description: "The packages of each kind of node, for a person.", returned: success, type: str}
warnings: {description: "The nodes for which a package has no wheel, with what pip says.", returned: when there are any, type: list}
"""
