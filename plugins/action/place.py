"""Action plugin `place`: see plugins/modules/place.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.control.care import care_of
from fleet.intake.request import Request
from fleet.launch.packing import pack
from fleet.launch.placing import place
from fleet.launch.shipments import shipments
from fleet.launch.standby import standbys, told
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
        request, plan = packed.request, placed.plan
        # What is moved now is not kept waiting for a third node.
        is_cared_for = not request.resumes and care_of(cluster, request).folder is not None
        standby = standbys(request.experiment, cluster.nodes, plan, request.pins) if is_cared_for else {}
        return {
            "changed": False,
            "request": request.to_json(),
            "plan": plan.to_json(),
            "nodes": [one.to_json() for one in shipments(request, cluster, plan.assignments, standby)],
            "table": "\n\n".join(filter(None, (packed.table, plan.table(), told(standby)))),
            **packed.told,
            "file": placed.file,
            "diff": {
                "before_header": "instances on the nodes",
                "after_header": f"with {request.name}",
                "before": placed.before,
                "after": placed.after,
            },
        }
