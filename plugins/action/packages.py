"""Action plugin `packages`: see plugins/modules/packages.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.intake.request import Request
from fleet.launch.packing import pack
from fleet.observe.cluster import Cluster
from plugins.base import LocalAction, Result


class ActionModule(LocalAction):
    """Resolves what the user's code asks for, for the nodes that answered."""

    ARGUMENTS = {"request": {"type": "dict", "required": True}, "cache": {"type": "path", "required": True}}

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        request = Request.from_json(given["request"], "request")
        packed = pack(request, Cluster.from_task_vars(task_vars), Path(given["cache"]), check=self.check)
        warnings = {"warnings": list(packed.warnings)} if packed.warnings else {}
        return {"changed": False, "request": packed.request.to_json(), "table": packed.table, **warnings}
