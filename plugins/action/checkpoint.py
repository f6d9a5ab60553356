"""Action plugin `checkpoint`: see plugins/modules/checkpoint.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract.description import InstanceRef
from fleet.base.errors import CheckpointError
from fleet.base.text_table import table
from fleet.launch.specs import settings_of_slots
from fleet.observe.cluster import Cluster
from fleet.observe.search import newest_epochs
from fleet.record.checkpoints import Home, take
from fleet.record.run_folder import Run
from plugins.base import LocalAction, Result


class ActionModule(LocalAction):
    """Passes what was brought home of instances to `fleet.record.checkpoints`."""

    ARGUMENTS = {
        "run_id": {"type": "str", "required": True},
        "runs_dir": {"type": "path", "required": True},
        "hosts": {"type": "list", "elements": "str", "required": True},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        run, hostvars = Run.open(given["runs_dir"], given["run_id"]), task_vars["hostvars"]
        cluster = Cluster.from_task_vars(task_vars)
        states = {(node, one.id): one for node, one in newest_epochs(cluster, [run]) if one.run_id == run.run_id}
        home: dict[str, Home] = {}
        missing: list[str] = []
        for name in given["hosts"]:
            ref = InstanceRef.from_json(hostvars[name]["instance_ref"], name)
            outcome = hostvars[name].get("instance_collected") or {}
            if outcome.get("status") and not outcome.get("unreachable") and not outcome.get("failed"):
                state = states.get((ref.node, ref.id))
                home[ref.id] = Home(
                    state.epoch if state else 1,
                    str(outcome["status"]),
                    ref.node,
                    settings_of_slots(cluster.host(ref.node), uses_gpu=bool(state and state.uses_gpu)),
                    bool(outcome.get("slot")),
                )
            else:
                missing.append(f"{name}: {outcome.get('msg', 'nothing of it came home')}")
        if missing:
            raise CheckpointError("\n".join(["no checkpoint of these:", *missing]))
        if self.check:
            return {"changed": False, "stores": []}
        taken = take(run, home)
        rows = [
            (id, one.checkpoint, str(one.epoch), one.status, "yes" if one.slot else "no")
            for id, one in taken.kept.items()
        ]
        store = cluster.settings.checkpoint_store
        kept = {"changed": taken.changed, "stores": [store] if store else []}
        return {**kept, "table": table(("instance", "checkpoint", "epoch", "status", "slot"), rows)}
