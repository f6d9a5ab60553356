"""Action plugin `report`: see plugins/modules/report.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail

from fleet.record.run_folder import Run
from fleet.report import write
from plugins.base import LocalAction, Result


class ActionModule(LocalAction):
    """Passes a run's folder to `fleet.report`."""

    ARGUMENTS = {"run_id": {"type": "str", "required": True}, "runs_dir": {"type": "path", "required": True}}

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        try:
            path, changed = write(Run.open(given["runs_dir"], given["run_id"]), check=self.check)
        except OSError as error:
            raise AnsibleActionFail(str(error)) from error
        return {"changed": changed, "path": str(path), "table": f"report: {path}"}
