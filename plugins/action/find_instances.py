"""Action plugin `find_instances`: see plugins/modules/find_instances.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.control.told import told
from fleet.observe.cluster import Cluster
from fleet.observe.search import experiment_of, find_run, overview, recover
from fleet.record.run_folder import LATEST, list_runs
from plugins.base import LocalAction, Result


class ActionModule(LocalAction):
    """Finds a run's instances in the nodes' measured states, never in the controller's records."""

    ARGUMENTS = {
        "run_id": {"type": "str", "default": LATEST},
        "instance": {"type": "str", "default": ""},
        "runs_dir": {"type": "path", "default": ""},
        "acts": {"type": "bool", "default": False},
        "earlier": {"type": "bool", "default": False},
        "report": {"type": "str", "default": "run", "choices": ["run", "nodes", "all"]},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        cluster = Cluster.from_task_vars(task_vars)
        if given["report"] != "run":
            seen = overview(cluster, given["run_id"], with_instances=given["report"] == "all")
            return {
                "nodes": seen.statuses,
                "unwell": seen.unwell,
                "found": [{**one.to_json(), "node": node} for node, one in seen.instances],
                "table": "\n\n".join(filter(None, [seen.table, told(cluster.settings.name)])),
            }
        runs = list_runs(Path(given["runs_dir"])) if given["runs_dir"] else []
        which = {"acts": given["acts"], "earlier": given["earlier"]}
        found = find_run(cluster, given["run_id"], given["instance"], runs, **which)
        if given["runs_dir"] and not self.check:
            places = {entry.instance_ref.id: entry.instance_ref.node for entry in found.entries}
            recover(Path(given["runs_dir"]), found.run_id, places, experiment_of(cluster, found.run_id))
        return {
            "silent": found.silent,
            "run_id": found.run_id,
            "instances": [entry.to_json() for entry in found.entries],
            "table": found.table,
        }
