"""Action plugin `resume`: see plugins/modules/resume.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.control.care import care_of
from fleet.intake.reader import Places
from fleet.launch.resuming import Wish, prepare
from fleet.observe.cluster import Cluster
from fleet.record.run_folder import Run
from fleet.record.signing import Keys
from placement import parse_pins
from plugins.base import LocalAction, Result


class ActionModule(LocalAction):
    """Passes what a person, or the control loop, wants resumed to `fleet.launch.resuming`."""

    ARGUMENTS = {
        "run_id": {"type": "str", "required": True},
        "runs_dir": {"type": "path", "required": True},
        "cache": {"type": "path", "required": True},
        "project": {"type": "path", "required": True},
        "instances": {"type": "list", "elements": "str", "default": []},
        "else_all": {"type": "bool", "default": False},
        "stops": {"type": "bool", "default": False},
        "gone": {"type": "list", "elements": "str", "default": []},
        "checkpoint": {"type": "str", "default": ""},
        "pins": {"type": "raw", "default": ""},
        "signing_key": {"type": "path", "default": ""},
        "allowed_signers": {"type": "path", "default": ""},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        run, cluster = Run.open(given["runs_dir"], given["run_id"]), Cluster.from_task_vars(task_vars)
        wish = Wish(
            tuple(given["instances"]),
            given["else_all"],
            given["stops"],
            tuple(given["gone"]),
            given["checkpoint"],
            parse_pins(given["pins"]),
        )
        resumption = prepare(
            run,
            cluster,
            Keys(given["signing_key"], given["allowed_signers"]),
            Places(Path(given["project"]), Path(given["cache"])),
            wish,
            lambda request: care_of(cluster, request).folder is not None,
            check=self.check,
        )
        return {
            "changed": False,
            "run_id": run.run_id,
            "request": resumption.request.to_json(),
            "instances": [one.to_json() for one in resumption.left],
            "table": resumption.table,
            **({"warnings": list(resumption.warnings)} if resumption.warnings else {}),
        }
