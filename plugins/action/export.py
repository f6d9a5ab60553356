"""Action plugin `export`: see plugins/modules/export.py for its documentation."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from fleet.base.errors import FleetError
from fleet.base.text_table import table
from fleet.record.run_folder import Run
from fleet.results.export import export


class ActionModule(ActionBase):
    """Hands a run's merged database to `fleet.results.export`. No node is contacted."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "run_id": {"type": "str", "required": True},
                "runs_dir": {"type": "path", "required": True},
                "format": {"type": "str", "default": "parquet", "choices": ["parquet", "csv"]},
            }
        )
        try:
            run = Run.open(given["runs_dir"], given["run_id"])
            done = export(run, given["format"], check=bool(self._task.check_mode))
        except FleetError as error:
            return {**result, "failed": True, "msg": str(error)}
        told = f"{table(('file', 'rows'), [*done['rows'].items()])}\n\nin {done['path']}"
        return {**result, **done, "changed": bool(done["changed"]), "files": done["changed"], "table": told}
