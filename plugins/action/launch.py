"""Action plugin `launch`: see plugins/modules/launch.py for its documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from contract.launch_spec import LaunchSpec
from fleet.launch import key_store
from plugins.base import Action, Result


class ActionModule(Action):
    """Starts an instance, with the keys that it shares with its peers: those must stand in no variable."""

    ARGUMENTS = {
        "launch_spec": {"type": "dict", "required": True},
        "llama_cpp": {"type": "str", "required": True},
        "start_timeout": {"type": "float", "default": 120},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        spec = LaunchSpec.from_json(given["launch_spec"], "launch_spec")
        keys = {} if self.check else {"keys": json.dumps(key_store.of(spec.run_id, spec.id).to_json())}
        done: Result = self._execute_module("instance", {"state": "started", **given, **keys}, task_vars=task_vars)
        return done
