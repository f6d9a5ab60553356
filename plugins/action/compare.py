"""Action plugin `compare`: see plugins/modules/compare.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.results.compare import chosen, compare, comparison_table
from plugins.base import LocalAction, Result


class ActionModule(LocalAction):
    """Passes the records of runs to `fleet.results.compare`."""

    ARGUMENTS = {
        "runs": {"type": "list", "elements": "str", "default": []},
        "runs_dir": {"type": "path", "required": True},
        "out": {"type": "path", "default": ""},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        comparison = compare(chosen(given["runs_dir"], given["runs"]))
        changed = False
        if given["out"]:
            from fleet.report.comparison import save  # imported here: the plotting library loads slowly

            changed = save(comparison, Path(given["out"]), check=self.check)
        return {"changed": changed, "comparison": comparison, "table": comparison_table(comparison)}
