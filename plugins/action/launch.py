"""Action plugin `launch`: see plugins/modules/launch.py for its documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from contract.launch_spec import LaunchSpec
from fleet.launch import key_store
from plugins.base import Action, Result

BEYOND_SECONDS = 300  # for a node that is slow in stopping what does not start


class ActionModule(Action):
    """Starts an instance, with its credentials: those must stand in no variable of a host and in no result."""

    ARGUMENTS = {
        "launch_spec": {"type": "dict", "required": True},
        "llama_cpp": {"type": "str", "required": True},
        "start_timeout": {"type": "float", "default": 120},
        "secrets": {"type": "dict", "default": {}, "no_log": True},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        spec = LaunchSpec.from_json(given["launch_spec"], "launch_spec")
        known = given.pop("secrets")
        options = {"state": "started", **given}
        if not self.check:
            keys = key_store.of(spec.run_id, spec.id)
            secrets = {name: str(known[name]) for name in spec.secrets}
            credentials = replace(keys, workload=replace(keys.workload, secrets=secrets))
            options["credentials"] = json.dumps(credentials.to_json())
        waiting = f"{spec.description.node} starts {spec.id}"
        return self.ask("instance", options, task_vars, given["start_timeout"] + BEYOND_SECONDS, waiting)
