"""Lookup `placement`: the plan of an experiment on the nodes that the inventory declares."""

from __future__ import annotations

DOCUMENTATION = r"""
name: placement
short_description: Where an experiment would run
description:
  - Returns the plan of an experiment on the inventory's declared nodes, without contacting them.
  - Running instances and the nodes' health do not count here; the action M(place) knows them.
  - An instance without C(ram_gb) needs a model that is on the controller already.
options:
  _terms: {description: Paths of experiment files., required: true}
  seed: {description: Which of the equally good plans C(design.randomize) draws., type: raw}
  repeat: {description: Which repeat of C(design.counterbalance) it is; 1 when left out., type: raw}
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

from fleet.observe.cluster import Cluster
from placement import BadInput, Infeasible, Options, load_experiment, nodes_from_hostvars, place_designed
from placement.adapters.gguf_memory import sized_here


class LookupModule(LookupBase):
    """Plans without contacting nodes, from the inventory's declarations only."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        try:
            cluster = Cluster.from_task_vars(variables or {})
            asked = Options.read(seed=self.get_option("seed"), repeat=self.get_option("repeat"))
            return [self._plan(term, cluster, asked) for term in terms]
        except (BadInput, Infeasible) as error:
            raise AnsibleLookupError(f"placement: {error}") from error

    def _plan(self, path: str, cluster: Cluster, asked: Options) -> dict[str, Any]:
        nodes = nodes_from_hostvars(cluster.hostvars)
        experiment, _ = sized_here(load_experiment(path, cluster.names), cluster.hostvars)
        if faults := asked.faults(experiment.design, nodes, experiment.instances, {}):
            raise BadInput(faults)
        plan = place_designed(
            experiment.design,
            nodes,
            experiment.instances,
            port_range=cluster.ports,
            seed=asked.seed,
            repeat=asked.repeat or 1,
        )
        return plan.to_json()
