"""Action plugin `follow_run`: see plugins/modules/follow_run.py for its documentation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from contract.events import Died, InstanceFault, NodeLost, Resumed, StatusChanged, Waits
from fleet.control.desired_store import DesiredStore
from fleet.control.loop_file import folder_of
from fleet.control.one_at_a_time import holder
from fleet.observe.changes import words
from fleet.observe.cluster import Cluster
from fleet.record.run_folder import Run
from plugins.base import LocalAction, Result

LOOK_SECONDS = 1.0
SHOWN = (Died, InstanceFault, NodeLost, Resumed, StatusChanged, Waits)
NO_LOOP = "  no control loop runs: what has no lease any more waits for one (playbooks/control.yml)"


class ActionModule(LocalAction):
    """Tells what happens to a run that the control loop looks after, until the loop has brought it home."""

    ARGUMENTS = {
        "run_id": {"type": "str", "required": True},
        "runs_dir": {"type": "path", "required": True},
        "duration_seconds": {"type": "float", "default": 0},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        run, folder = (
            Run.open(given["runs_dir"], given["run_id"]),
            folder_of(Cluster.from_task_vars(task_vars).settings.name),
        )
        store, known, has_loop = DesiredStore(folder), 0, True
        deadline = time.monotonic() + given["duration_seconds"] if given["duration_seconds"] else float("inf")
        while True:
            over = run.run_id not in store.read().runs  # asked first, so that all that happened is told
            events = run.events()
            for _, event in events[known:]:
                if isinstance(event, SHOWN):
                    self.show(f"  {getattr(event, 'node', '') or 'control loop'}: {words(event)}")
            known = len(events)
            if over or time.monotonic() > deadline:
                return {"changed": False, "over": over}
            if has_loop != (holder(folder) is not None):
                has_loop = not has_loop
                self.show("  the control loop is back" if has_loop else NO_LOOP)
            time.sleep(LOOK_SECONDS)
