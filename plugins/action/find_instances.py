"""Action plugin `find_instances`: see plugins/modules/find_instances.py for its documentation."""

from __future__ import annotations

import difflib
from typing import Any

from ansible.plugins.action import ActionBase

from fleet.intake.cluster import node_hostvars, node_states
from fleet.observe.tables import instance_table, node_status, node_table
from fleet.record.run_folder import LATEST, Run, list_runs
from placement.adapters.hostvars import HOLDING


class ActionModule(ActionBase):
    """Finds a run's instances by asking the nodes' measured states, never the controller's memory."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _, given = self.validate_argument_spec(
            {
                "run_id": {"type": "str", "default": LATEST},
                "instance": {"type": "str", "default": ""},
                "runs_dir": {"type": "path", "default": ""},
                "report": {"type": "str", "default": "run", "choices": ["run", "nodes", "all"]},
            }
        )
        hostvars = node_hostvars(task_vars)
        states = node_states(hostvars)
        found = [
            {**instance, "node": name}
            for name, state in states.items()
            for instance in (state or {}).get("instances", [])
        ]
        runs = sorted({instance["run_id"] for instance in found}, key=lambda run_id: run_id.rsplit("_", 2)[-2:])
        statuses = {name: node_status(variables, states[name]) for name, variables in hostvars.items()}
        silent = [name for name, status in statuses.items() if status == "UNAVAILABLE"]
        run_id = runs[-1] if given["run_id"] == LATEST and runs else given["run_id"]
        if given["report"] != "run":
            tables = [node_table(hostvars, states)]
            if given["report"] == "all":  # what lives, and one run; all that ever ran would be a long list
                tables.append(instance_table([i for i in found if i["status"] in HOLDING or i["run_id"] == run_id]))
            unwell = {name: status for name, status in statuses.items() if status not in ("HEALTHY", "MAINTENANCE")}
            report = {
                "nodes": statuses,
                "unwell": unwell,
                "found": found,
                "table": "\n\n".join(tables),
            }
            return {**result, **report}

        chosen = [i for i in found if i["run_id"] == run_id and given["instance"] in ("", i["id"])]
        if not chosen:
            why = f"; {', '.join(silent)} did not answer" if silent else ""
            ids = sorted({i["id"] for i in found if i["run_id"] == run_id})
            wanted, known, what = (given["instance"], ids, f"instance of {run_id}") if ids else (run_id, runs, "run")
            close = [name for name in known if name.startswith(wanted)] or difflib.get_close_matches(wanted, known, 3)
            close = close[-5:] or known[-5:]
            hint = (
                f"did you mean {', '.join(close)}?" if close else "no run is on the nodes; run_experiment.yml makes one"
            )
            return {**result, "failed": True, "msg": f"no {what} {wanted!r} on any node{why}: {hint}"}
        if given["runs_dir"] and run_id not in [run.run_id for run in list_runs(given["runs_dir"])]:
            manifest = {"experiment": chosen[0]["experiment"], "recovered_from_nodes": True}
            if not self._task.check_mode:  # launched from another controller, or its record was lost
                Run.create(given["runs_dir"], run_id, manifest, {"assignments": {i["id"]: i["node"] for i in chosen}})
        instances = [
            {
                "name": f"{i['id']}@{i['node']}",
                "instance_spec": {
                    **{key: i[key] for key in ("run_id", "id", "node", "dir", "status", "ports", "observed")},
                    "work_dir": str(hostvars[i["node"]]["remote_work_dir"]),
                    "owner": str(hostvars[i["node"]]["ssh_user"]),
                },
            }
            for i in chosen
        ]
        return {**result, "silent": silent, "run_id": run_id, "instances": instances, "table": instance_table(chosen)}
