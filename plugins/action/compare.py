"""Action plugin `compare`: see plugins/modules/compare.py for its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from fleet.base.errors import FleetError
from fleet.report.comparison import save
from fleet.results.compare import chosen, compare, comparison_table


class ActionModule(ActionBase):
    """Hands the records of runs to `fleet.results.compare`. No node is contacted."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "runs": {"type": "list", "elements": "str", "default": []},
                "runs_dir": {"type": "path", "required": True},
                "out": {"type": "path", "default": ""},
            }
        )
        try:
            comparison = compare(chosen(given["runs_dir"], given["runs"]))
            out = Path(given["out"]) if given["out"] else None
            changed = out is not None and save(comparison, out, check=bool(self._task.check_mode))
        except FleetError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": changed, "comparison": comparison, "table": comparison_table(comparison)}
