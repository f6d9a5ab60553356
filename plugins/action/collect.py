"""Action plugin `collect`: see plugins/modules/collect.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract.collected import COPIES
from contract.description import InstanceRef
from contract.events import InstanceFault
from contract.names import copies_folder
from fleet.base.transport import fetch
from fleet.record.run_folder import Run
from plugins.base import Action, Result

COPY_SECONDS = 3600  # for a node to copy what it has; a database may have 8 GB


class ActionModule(Action):
    """Has the node make consistent copies, then fetches them into the run's record."""

    ARGUMENTS = {
        "instance_ref": {"type": "dict", "required": True},
        "runs_dir": {"type": "path", "required": True},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        ref = InstanceRef.from_json(given["instance_ref"], "instance_ref")
        result = self.ask("instance", {"state": "collected", "instance_ref": ref.to_json()}, task_vars, COPY_SECONDS)
        if result.get("failed") or self.check:
            return result
        run = Run.open(given["runs_dir"], ref.run_id)
        known = [one.event for one in run.events()] if result["faults"] else []
        for fault in (InstanceFault(ref.id, text, ref.node) for text in result["faults"]):
            if fault not in known:
                run.append(fault)
        limits = {copy.name(ref.id): copy.limit for copy in COPIES}
        folder = copies_folder(ref.work_dir, ref.run_id, ref.id)
        files = fetch(self._connection, folder, limits, run.path)
        return {**result, "changed": bool(files), "files": files}
