"""Action plugin `collect`: see plugins/modules/collect.py for its documentation."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contract.collected import COPIES, FILES, SLOT, Copy
from contract.description import InstanceRef
from contract.events import InstanceFault, Recovered
from contract.names import copies_folders
from contract.node_state import NodeState
from fleet.base.errors import MergeError
from fleet.base.transport import TransferError, fetch
from fleet.record.checkpoints import keep_earlier
from fleet.record.run_folder import Run
from fleet.results.cut_back import beyond
from fleet.results.result_files import unpack
from plugins.base import Action, Result

COPY_SECONDS = 3600  # for a node to copy what it has; a database may have 8 GB
STATE_SECONDS = 60


class ActionModule(Action):
    """Has the node make consistent copies, then fetches them into the run's record."""

    ARGUMENTS = {
        "instance_ref": {"type": "dict", "required": True},
        "runs_dir": {"type": "path", "required": True},
        "of_epoch": {"type": "int", "default": 0},
        "slot": {"type": "bool", "default": False},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        ref = InstanceRef.from_json(given["instance_ref"], "instance_ref")
        asked = {"state": "collected", "instance_ref": ref.to_json(), "slot": given["slot"]}
        result = self.ask("instance", asked, task_vars, COPY_SECONDS, f"{ref.node} copies what {ref.id} has left")
        if result.get("unreachable") or self.check:
            return result
        if result.get("failed"):
            return {**result, "status": self._status(ref, task_vars), "faults": [str(result.get("msg"))]}
        run = Run.open(given["runs_dir"], ref.run_id)
        if given["of_epoch"]:
            return {**result, **self._recover(ref, run, result["spare"], given["of_epoch"])}
        files, unfetched = self._fetch(ref, run.path, result["spare"], [*COPIES, *([SLOT] if result["slot"] else [])])
        if FILES.name(ref.id) in files:
            try:
                files = [name for name in files if name != FILES.name(ref.id)] + unpack(run.path, ref.id)
            except MergeError as error:
                unfetched.append(str(error))
        faults = [*result["faults"], *unfetched]
        known = [one.event for one in run.events()] if faults else []
        for fault in (InstanceFault(ref.id, text, ref.node) for text in faults):
            if fault not in known:
                run.append(fault)
        failed = {"failed": True, "msg": "\n".join(unfetched)} if unfetched else {}
        slot = SLOT.name(ref.id) in files
        return {**result, "changed": bool(files), "files": files, "faults": faults, "slot": slot, **failed}

    def _recover(self, ref: InstanceRef, run: Run, spare: bool, epoch: int) -> Result:
        """Fetch what an earlier epoch has left, under names of its own: nothing of it is merged."""
        with tempfile.TemporaryDirectory(prefix=".earlier.", dir=run.path) as scratch:
            _, unfetched = self._fetch(ref, Path(scratch), spare, COPIES)
            kept = keep_earlier(run, ref.id, epoch, Path(scratch))
        if kept:
            run.append(Recovered(ref.id, epoch, ref.node, beyond(run, ref.id, epoch)))
        return {"changed": bool(kept), "files": kept, "faults": unfetched}

    def _status(self, ref: InstanceRef, task_vars: Mapping[str, Any]) -> str:
        """Return the status of an instance that cannot be collected, but whose node answers."""
        asked = {"work_dir": ref.work_dir, "wait_run": ref.run_id}
        state = NodeState.from_json(self.ask("node_state", asked, task_vars, STATE_SECONDS)["state"], ref.node)
        return next((one.status for one in state.instances if one.id == ref.id), "")

    def _fetch(
        self, ref: InstanceRef, target: Path, spare: bool, copies: Sequence[Copy]
    ) -> tuple[list[str], list[str]]:
        """Return the files that differed from those in the target, and what could not be fetched.

        spare: some of its copies are in the second of the folders for them.
        """
        limits = {copy.name(ref.id): copy.limit for copy in copies}
        files: list[str] = []
        faults: list[str] = []

        def tell(line: str) -> None:
            self.show(f"  {ref.node}: fetching what {ref.id} has left {line}")

        for folder in copies_folders(ref.work_dir, ref.run_id, ref.id)[: 1 + spare]:
            try:
                files += fetch(self._connection, folder, limits, target, tell)
            except TransferError:  # one file must not keep the others from coming home
                for name, limit in limits.items():
                    try:
                        files += fetch(self._connection, folder, {name: limit}, target, tell)
                    except TransferError as error:
                        faults.append(f"{name}: not fetched: {error}")
        return files, faults
