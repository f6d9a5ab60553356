"""Action plugin `report`: see plugins/modules/report.py for its documentation."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from fleet.base.errors import FleetError
from fleet.record.run_folder import Run
from fleet.report import write


class ActionModule(ActionBase):
    """Hands a run's folder to `fleet.report`. No node is contacted."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {"run_id": {"type": "str", "required": True}, "runs_dir": {"type": "path", "required": True}}
        )
        try:
            path, changed = write(Run.open(given["runs_dir"], given["run_id"]), check=bool(self._task.check_mode))
        except (FleetError, OSError) as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": changed, "path": str(path), "table": f"report: {path}"}
