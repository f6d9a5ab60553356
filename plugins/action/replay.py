"""Action plugin `replay`: see plugins/modules/replay.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.intake.reader import Places
from fleet.launch.replay import nodes_of, prepare
from fleet.record.run_folder import Run
from fleet.record.signing import Keys
from plugins.base import LocalAction, Result


class ActionModule(LocalAction):
    """Passes a run's record to `fleet.launch.replay`."""

    ARGUMENTS = {
        "run_id": {"type": "str", "required": True},
        "runs_dir": {"type": "path", "required": True},
        "cache": {"type": "path", "required": True},
        "project": {"type": "path", "required": True},
        "signing_key": {"type": "path", "default": ""},
        "allowed_signers": {"type": "path", "default": ""},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        keys = Keys(given["signing_key"], given["allowed_signers"])
        places = Places(Path(given["project"]), Path(given["cache"]))
        intake = prepare(Run.open(given["runs_dir"], given["run_id"]), keys, places, check=self.check)
        nodes = nodes_of(intake.request, task_vars["groups"].get("nodes", []))
        return {"changed": False, "found": intake.to_json(), "nodes": nodes}
