"""Action plugin `experiment`: see plugins/modules/experiment.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import context

from fleet.intake.reader import Given, Places, read_request
from fleet.observe.cluster import Cluster
from plugins.base import LocalAction, Result


class ActionModule(LocalAction):
    """Reads everything that the user gave and reports every fault at once."""

    ARGUMENTS = {
        "name": {"type": "str", "default": ""},
        "config": {"type": "raw", "default": ""},
        "project": {"type": "path", "required": True},
        "cache": {"type": "path", "required": True},
        "pins": {"type": "raw", "default": ""},
        "plan": {"type": "path", "default": ""},
        "strategy": {"type": "str", "default": ""},
        "time_limit": {"type": "raw", "default": ""},
        "seed": {"type": "raw", "default": ""},
        "repeat": {"type": "raw", "default": ""},
        "why": {"type": "raw", "default": ""},
        "code_src": {"type": "str", "default": ""},
        "code_ref": {"type": "str", "default": ""},
        "command": {"type": "raw", "default": []},
        "default_model": {"type": "dict", "default": {}},
        "replay": {"type": "dict", "default": {}},
        "secrets": {"type": "list", "elements": "str", "default": []},
        "workload": {"type": "raw", "default": ""},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        typed = Given(
            experiment=given["name"],
            experiment_config=given["config"],
            plan=given["plan"],
            placement=given["pins"],
            strategy=given["strategy"],
            placement_time_limit=given["time_limit"],
            placement_seed=given["seed"],
            repeat=given["repeat"],
            why=given["why"],
            experiment_code_src=given["code_src"],
            experiment_code_ref=given["code_ref"],
            experiment_command=given["command"],
            experiment_secrets=tuple(given["secrets"]),
            workload=given["workload"],
            extra_vars=tuple(context.CLIARGS.get("extra_vars") or ()),
        )
        places = Places(Path(given["project"]), Path(given["cache"]))
        cluster = Cluster.from_task_vars(task_vars)
        intake = read_request(typed, places, cluster, given["default_model"], given["replay"], check=self.check)
        return {"changed": False, **intake.to_json()}
