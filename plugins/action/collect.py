"""Action plugin `collect`: see plugins/modules/collect.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract.description import InstanceRef
from contract.names import EXPORT
from fleet.base.transport import rsync
from fleet.record.run_folder import Run
from plugins.base import Action, Result


class ActionModule(Action):
    """Has the node make consistent copies, then fetches them into the run's record."""

    ARGUMENTS = {
        "instance_ref": {"type": "dict", "required": True},
        "runs_dir": {"type": "path", "required": True},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        ref = InstanceRef.from_json(given["instance_ref"], "instance_ref")
        result: Result = self._execute_module(
            "instance", {"state": "collected", "instance_ref": ref.to_json()}, task_vars=task_vars
        )
        if result.get("failed") or self.check:
            return result
        run = Run.open(given["runs_dir"], ref.run_id)
        # The copies are new each time, so changes are detected by content, not by date.
        names = rsync(
            self._connection, f"{ref.dir}/{EXPORT}/", f"{run.path}/", fetch=True,
            options=["--checksum", "--no-times", "--no-perms"],
        )  # fmt: skip
        files = [name for name in names if not name.endswith("/")]
        return {**result, "changed": bool(files), "files": files}
