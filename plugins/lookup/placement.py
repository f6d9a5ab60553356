"""Lookup `placement`: where an experiment would run, by what the inventory declares."""

from __future__ import annotations

DOCUMENTATION = r"""
name: placement
short_description: Where an experiment would run
description:
  - Returns the plan of an experiment on the inventory's declared nodes, without contacting them.
  - Running instances and the nodes' health do not count here; the action M(place) knows them.
options:
  _terms: {description: Paths of experiment files., required: true}
author: [Jarfleet]
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ lookup('placement', 'experiments/split_brain.yml').assignments }}"
"""

RETURN = r"""
_raw:
  description: One plan a term, in the form that C(python -m placement plan --format json) prints.
  type: list
  elements: dict
"""

from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from fleet.cluster import node_hostvars
from placement import BadInput, Infeasible, load_experiment, nodes_from_hostvars, place, port_range_from_hostvars


class LookupModule(LookupBase):
    """Plans without facts."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        hostvars = node_hostvars(variables or {})
        try:
            nodes, ports = nodes_from_hostvars(hostvars), port_range_from_hostvars(hostvars)
            return [place(nodes, load_experiment(term).instances, port_range=ports).to_json() for term in terms]
        except (BadInput, Infeasible) as error:
            raise AnsibleLookupError(f"placement: {error}") from error
