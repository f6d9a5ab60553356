"""Action plugin `export`: see plugins/modules/export.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.base.text_table import table
from fleet.record.run_folder import Run
from fleet.results.export import export
from plugins.base import LocalAction, Result


class ActionModule(LocalAction):
    """Passes a run's merged database to `fleet.results.export`."""

    ARGUMENTS = {
        "run_id": {"type": "str", "required": True},
        "runs_dir": {"type": "path", "required": True},
        "format": {"type": "str", "default": "parquet", "choices": ["parquet", "csv"]},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        done = export(Run.open(given["runs_dir"], given["run_id"]), given["format"], check=self.check)
        shown = f"{table(('file', 'rows'), [*done['rows'].items()])}\n\nin {done['path']}"
        return {**done, "changed": bool(done["changed"]), "files": done["changed"], "table": shown}
