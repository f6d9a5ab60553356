"""Action plugin `place`: see plugins/modules/place.py for its documentation."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from fleet.base.errors import PlanChanged, PlanFileError, ReplayRefused
from fleet.intake.cluster import inventory_source, node_hostvars, node_states
from fleet.intake.saved_plan import SavedPlan, applied, depends_on
from fleet.launch.replay import hold
from placement import (
    BadInput,
    Infeasible,
    Options,
    load_experiment,
    nodes_from_hostvars,
    parse_pins,
    parse_why,
)
from placement import port_range_from_hostvars as port_range
from placement.adapters.hostvars import HOLDING


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
                "seed": {"type": "int"},
                "repeat": {"type": "int"},
                "why": {"type": "raw", "default": ""},
                "checked": {"type": "dict", "default": {}},
            }
        )
        checked = given["checked"]
        try:
            hostvars = node_hostvars(task_vars)
            states, source = node_states(hostvars), inventory_source(hostvars)
            asked = Options.read(given["strategy"], given["time_limit_s"], given["seed"], given["repeat"])
            pins = parse_pins(given["pins"])
            experiment = load_experiment(given["experiment"]).sized(checked.get("memory", {}))
            nodes = nodes_from_hostvars(hostvars, states, source)
            ports = port_range(hostvars, source)
            now = depends_on(
                experiment,
                nodes,
                ports,
                {id: model["sha256"] for id, model in checked.get("models", {}).items()},
                checked.get("release", {}).get("hash", ""),
                checked.get("command", []),
            )
            if checked.get("replay"):
                plan = hold(checked, experiment, nodes, ports, hostvars, states)
            elif saved := checked.get("saved"):
                plan = applied(SavedPlan(**saved["plan"]), now, experiment, nodes, ports, saved["file"])
            else:
                if faults := asked.faults(experiment.design, nodes, experiment.instances, pins):
                    raise BadInput(faults)
                plan = asked.plan(experiment, nodes, pins, ports, parse_why(given["why"]))
        except ReplayRefused as error:
            return {**result, "failed": True, "msg": str(error), "changes": error.differences}
        except PlanFileError as error:
            changes = error.changes if isinstance(error, PlanChanged) else []
            return {**result, "failed": True, "msg": str(error), "changes": changes}
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
            "file": SavedPlan(checked.get("reference", experiment.name), pins, now, plan.to_json()).text,
            "diff": {
                "before_header": "instances on the nodes",
                "after_header": f"with {experiment.name}",
                "before": "".join(before),
                "after": "".join(sorted(after)),
            },
        }
