#!/usr/bin/python
# Documentation of the action plugin shipment.
from __future__ import annotations

DOCUMENTATION = r"""
module: shipment
short_description: Say what has to be sent to each node
description:
  - Of each node that answered (see M(node_state)), the artifacts that M(push) sends - the code, and every model of the experiment.
  - A run sends less, by its plan - see M(run_record).
options:
  request: {description: The RV(ignore:request) that M(experiment) returned., type: dict, required: true}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: See what each node needs
  shipment: {request: "{{ preflight_checked.request }}"}
  register: sent
"""

RETURN = r"""
nodes: {description: "Entries for C(add_host): C(name) of each node, and C(artifacts), what has to be sent there.", returned: success, type: list}
"""
