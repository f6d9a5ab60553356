"""Action plugin `place`: see plugins/modules/place.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.intake.request import Request
from fleet.launch.packing import pack
from fleet.launch.placing import place
from fleet.launch.shipments import shipments
from fleet.observe.cluster import Cluster
from plugins.base import LocalAction, Result


class ActionModule(LocalAction):
    """Passes the request and the measured nodes to `placement`, and returns its plan to Ansible."""

    ARGUMENTS = {"request": {"type": "dict", "required": True}, "cache": {"type": "path", "required": True}}

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        request = Request.from_json(given["request"], "request")
        cluster = Cluster.from_task_vars(task_vars)
        packed = pack(request, cluster, Path(given["cache"]), check=self.check)
        placed = place(packed.request, cluster)
        return {
            "changed": False,
            "request": packed.request.to_json(),
            "plan": placed.plan.to_json(),
            "nodes": [one.to_json() for one in shipments(packed.request, cluster, placed.plan.assignments)],
            "table": "\n\n".join(filter(None, (packed.table, placed.plan.table()))),
            **packed.told,
            "file": placed.file,
            "diff": {
                "before_header": "instances on the nodes",
                "after_header": f"with {request.name}",
                "before": placed.before,
                "after": placed.after,
            },
        }
