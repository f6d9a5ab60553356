"""Action plugin `resume`: see plugins/modules/resume.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.control.care import starting
from fleet.intake.reader import Places
from fleet.launch.resuming import ended, prepare
from fleet.observe.cluster import Cluster
from fleet.record.run_folder import Run
from fleet.record.signing import Keys
from placement import parse_pins
from plugins.base import LocalAction, Result


class ActionModule(LocalAction):
    """Passes a run that has ended to `fleet.launch.resuming`."""

    ARGUMENTS = {
        "state": {"type": "str", "required": True, "choices": ["ended", "prepared"]},
        "run_id": {"type": "str", "required": True},
        "runs_dir": {"type": "path", "required": True},
        "gone": {"type": "list", "elements": "str", "default": []},
        "stops": {"type": "bool", "default": False},
        "cache": {"type": "path", "default": ""},
        "project": {"type": "path", "default": ""},
        "checkpoint": {"type": "str", "default": ""},
        "pins": {"type": "raw", "default": ""},
        "signing_key": {"type": "path", "default": ""},
        "allowed_signers": {"type": "path", "default": ""},
    }
    RULES = {"required_if": [("state", "prepared", ("cache", "project"))]}

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        run, cluster = Run.open(given["runs_dir"], given["run_id"]), Cluster.from_task_vars(task_vars)
        if given["state"] == "ended":
            found = ended(run, cluster, given["gone"], stops=given["stops"])
            if given["stops"] and not self.check:
                starting(run.run_id, cluster.settings.name)
            return {"changed": False, "run_id": run.run_id, "instances": [one.to_json() for one in found]}
        resumption = prepare(
            run,
            cluster,
            Keys(given["signing_key"], given["allowed_signers"]),
            Places(Path(given["project"]), Path(given["cache"])),
            parse_pins(given["pins"]),
            given["checkpoint"],
            check=self.check,
        )
        return {
            "changed": False,
            "starts": {id: start.to_json() for id, start in resumption.starts.items()},
            "request": resumption.request.to_json(),
            "table": resumption.table,
            **({"warnings": list(resumption.warnings)} if resumption.warnings else {}),
        }
