"""Action plugin `replay`: see plugins/modules/replay.py for its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from fleet.base.errors import FleetError
from fleet.launch.replay import prepare
from fleet.record.run_folder import Run
from fleet.record.signing import Keys
from placement import BadInput


class ActionModule(ActionBase):
    """Hands a run's record to `fleet.launch.replay`. No node is contacted."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "run_id": {"type": "str", "required": True},
                "runs_dir": {"type": "path", "required": True},
                "cache": {"type": "path", "required": True},
                "workload": {"type": "path", "required": True},
                "signing_key": {"type": "path", "default": ""},
                "allowed_signers": {"type": "path", "default": ""},
            }
        )
        keys = Keys(given["signing_key"], given["allowed_signers"])
        try:
            run = Run.open(given["runs_dir"], given["run_id"])
            check = bool(self._task.check_mode)
            checked = prepare(run, keys, Path(given["cache"]), Path(given["workload"]), check=check)
        except (FleetError, BadInput) as error:
            return {**result, "failed": True, "msg": str(error)}
        known = (task_vars or {})["groups"].get("nodes", [])
        nodes = dict.fromkeys(checked["replay"]["plan"]["assignments"].values())
        return {
            **result,
            "changed": False,
            "checked": checked,
            "nodes": [node for node in nodes if node in known],
        }
