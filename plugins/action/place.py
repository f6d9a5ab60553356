"""Action plugin `place`: see plugins/modules/place.py for its documentation."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from fleet.cluster import inventory_source, node_hostvars, node_states
from placement import BadInput, Infeasible, load_experiment, nodes_from_hostvars, parse_pins, place
from placement import port_range_from_hostvars as port_range
from placement.inventory import HOLDING


class ActionModule(ActionBase):
    """Hands what was declared and measured to `placement` and its plan back to Ansible."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _, given = self.validate_argument_spec(
            {
                "experiment": {"type": "path", "required": True},
                "pins": {"type": "raw", "default": ""},
                "strategy": {"type": "str", "default": "optimal", "choices": ["greedy", "optimal"]},
                "time_limit_s": {"type": "float", "default": 20.0},
            }
        )
        hostvars = node_hostvars(task_vars)
        states, source = node_states(hostvars), inventory_source(hostvars)
        try:
            experiment = load_experiment(given["experiment"])
            nodes = nodes_from_hostvars(hostvars, states, source)
            plan = place(
                nodes,
                experiment.instances,
                given["strategy"],
                parse_pins(given["pins"]),
                port_range(hostvars, source),
                time_limit_s=given["time_limit_s"],
            )
        except Infeasible as refusal:
            return {**result, "failed": True, "msg": str(refusal), **refusal.to_json()}
        except BadInput as error:
            return {**result, "failed": True, "msg": str(error), "faults": [str(fault) for fault in error.faults]}
        before = [
            f"{node}: {instance['id']} of {instance['run_id']}\n"
            for node, state in sorted(states.items())
            for instance in (state or {}).get("instances", [])
            if instance["status"] in HOLDING
        ]
        after = before + [f"{node}: {id} of {experiment.name} (new)\n" for id, node in plan.assignments.items()]
        return {
            **result,
            "changed": False,
            "plan": plan.to_json(),
            "table": plan.table(),
            "diff": {
                "before_header": "instances on the nodes",
                "after_header": f"with {experiment.name}",
                "before": "".join(before),
                "after": "".join(sorted(after)),
            },
        }
