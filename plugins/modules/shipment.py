#!/usr/bin/python
# Documentation of the action plugin shipment.
from __future__ import annotations

DOCUMENTATION = r"""
module: shipment
short_description: Say what has to be sent to each node
description:
  - Of each node that answered (see M(node_state)), the artifacts that M(push) sends - the code, the packages that it asks for
    (see M(place)), and every model of the experiment.
  - A run sends less, by its plan - see M(run_record).
options:
  request: {description: The RV(ignore:request) that M(experiment) returned., type: dict, required: true}
  cache: {description: "The controller's cache, for packages.", type: path, required: true}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: See what each node needs
  shipment: {request: "{{ preflight_checked.request }}", cache: ~/.cache/jarfleet}
  register: sent
"""

RETURN = r"""
table: {description: "The packages of each kind of node, for a person.", returned: success, type: str}
warnings: {description: "The nodes for which a package has no wheel, with what pip says.", returned: when there are any, type: list}
nodes: {description: "Entries for C(add_host): C(name) of each node, C(artifacts), what has to be sent there, and C(built_by), the node that asks for its build of llama.cpp.", returned: success, type: list}
"""
