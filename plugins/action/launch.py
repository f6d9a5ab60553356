"""Action plugin `launch`: see plugins/modules/launch.py for its documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from contract.launch_spec import LaunchSpec
from fleet.launch import key_store
from plugins.base import Action, Result

BEYOND_SECONDS = 300  # for a node that is slow in stopping what does not start


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
        options = {"state": "started", **given, **keys}
        return self.ask("instance", options, task_vars, given["start_timeout"] + BEYOND_SECONDS)
