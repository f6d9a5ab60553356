"""Action plugin `record_copy`: see plugins/modules/record_copy.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from contract.names import RUN_ID, record_folder
from fleet.base.transport import TransferError, fetch, send
from fleet.control.takeover import without_record
from fleet.observe.cluster import Cluster, Host
from fleet.record.record_copy import bring_back, is_needed, laid_out
from fleet.record.run_folder import Run
from plugins.base import Action, Result


class ActionModule(Action):
    """Keeps a copy of a run's record on a node, and brings it back."""

    ARGUMENTS = {
        "state": {"type": "str", "required": True, "choices": ["sought", "sent", "fetched"]},
        "runs_dir": {"type": "path", "required": True},
        "run_ids": {"type": "list", "elements": "str", "default": []},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        cluster, runs_dir = Cluster.from_task_vars(task_vars), Path(given["runs_dir"])
        if given["state"] == "sought":
            named = given["run_ids"] or without_record(cluster, runs_dir)
            wanted = [run_id for run_id in named if RUN_ID.fullmatch(run_id) and is_needed(runs_dir, run_id)]
            store = cluster.settings.checkpoint_store
            return {"changed": False, "run_ids": wanted, "stores": [store] if wanted and store else []}
        host = cluster.host(task_vars["inventory_hostname"])
        if self.check:
            return {"changed": False}
        done = []
        try:
            for run_id in given["run_ids"]:
                folder = record_folder(host.work_dir, run_id)
                if given["state"] == "sent":
                    changed = self._send(host, Run.open(runs_dir, run_id), folder, task_vars)
                else:
                    changed = bring_back(runs_dir, run_id, partial(fetch, self._connection, folder))
                done += [run_id] if changed else []
        except (TransferError, OSError) as error:  # the run goes on without the copy
            verb = "keeps no copy" if given["state"] == "sent" else "gave no copy"
            return {"changed": bool(done), "run_ids": done, "warnings": [f"{host.name} {verb} of {run_id}: {error}"]}
        return {"changed": bool(done), "run_ids": done}

    def _send(self, host: Host, run: Run, folder: str, task_vars: Mapping[str, Any]) -> bool:
        """Bring the copy up to date. Return whether anything of it differed. Raise TransferError, OSError."""
        item = {"name": "record", "dest": folder}
        place = {"work_dir": host.work_dir, "owner": host.owner}
        made = self._execute_module("artifact", {"state": "query", "items": [item], **place}, task_vars=task_vars)
        if made.get("failed"):  # the folder above it could not be made
            raise TransferError(str(made.get("msg")))

        def tell(line: str) -> None:
            self.show(f"  {host.name}: sending a copy of the record of {run.run_id} {line}")

        with laid_out(run) as copy:
            # What is older goes last, so that there is a whole checkpoint at any time.
            options = ["--delete-after", "--omit-dir-times"]
            return send(self._connection, f"{copy}/", folder, options=options, progress=tell)
