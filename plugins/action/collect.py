"""Action plugin `collect`: see plugins/modules/collect.py for its documentation."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from fleet.base.errors import FleetError
from fleet.base.transport import TransferError, rsync
from fleet.record.run_folder import Run


class ActionModule(ActionBase):
    """Has the node make consistent copies, then fetches them into the run's record."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "run_id": {"type": "str", "required": True},
                "id": {"type": "str", "required": True},
                "work_dir": {"type": "str", "required": True},
                "owner": {"type": "str", "required": True},
                "runs_dir": {"type": "path", "required": True},
            }
        )
        runs_dir = given.pop("runs_dir")
        result = self._execute_module("instance", {"state": "collected", **given}, task_vars=task_vars)
        if result.get("failed") or self._task.check_mode:
            return result
        try:
            run = Run.open(runs_dir, given["run_id"])
            # The copies are new each time, so their content tells whether anything changed, not their date.
            names = rsync(
                self._connection, f"{result['dir']}/export/", f"{run.path}/", fetch=True,
                options=["--checksum", "--no-times", "--no-perms"],
            )  # fmt: skip
        except (FleetError, TransferError) as error:
            raise AnsibleActionFail(f"{given['id']} could not be collected: {error}") from error
        files = [name for name in names if not name.endswith("/")]
        return {**result, "changed": bool(files), "files": files}
