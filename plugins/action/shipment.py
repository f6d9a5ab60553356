"""Action plugin `shipment`: see plugins/modules/shipment.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.intake.request import Request
from fleet.launch.packing import pack
from fleet.launch.shipments import shipments
from fleet.observe.cluster import Cluster
from plugins.base import LocalAction, Result


class ActionModule(LocalAction):
    """Returns what has to be sent to each node that answered."""

    ARGUMENTS = {"request": {"type": "dict", "required": True}, "cache": {"type": "path", "required": True}}

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        request = Request.from_json(given["request"], "request")
        cluster = Cluster.from_task_vars(task_vars)
        packed = pack(request, cluster, Path(given["cache"]), check=self.check)
        sent = shipments(packed.request, cluster)
        return {"changed": False, "nodes": [one.to_json() for one in sent], "table": packed.table, **packed.told}
