"""Action plugin `control`: see plugins/modules/control.py for its documentation."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.errors import AnsibleActionFail

from contract.names import NODE_PROGRAM
from fleet.base.errors import ControlError
from fleet.base.transport import ssh_command
from fleet.control.desired_store import DesiredStore, store_of
from fleet.control.loop_file import FILE, LoopFile, NodeToAttend, folder_of
from fleet.control.processes import check_coordinator, start, stop, why_not_lasting
from fleet.control.takeover import found_to_take_up
from fleet.observe.cluster import Cluster
from fleet.observe.search import experiment_of, recover
from plugins.base import Action, Result

# A connection of its own, which fails soon when its node is gone; the first value of an option counts.
OWN = ("-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ServerAliveInterval=3", "-o", "ServerAliveCountMax=3")


class ActionModule(Action):
    """Starts and stops the control loop, and tells it what a person wants."""

    ARGUMENTS = {
        "state": {"type": "str", "required": True, "choices": ["linked", "started", "stopped", "run_stopped"]},
        "work_dir": {"type": "str", "default": ""},
        "owner": {"type": "str", "default": ""},
        "memory_percent": {"type": "float", "default": 90},
        "disk_percent": {"type": "float", "default": 95},
        "maintenance": {"type": "bool", "default": False},
        "project": {"type": "path", "default": ""},
        "takeover": {"type": "bool", "default": False},
        "runs_dir": {"type": "path", "default": ""},
        "gone": {"type": "list", "elements": "str", "default": []},
        "hook": {"type": "list", "elements": "str", "default": []},
        "run_id": {"type": "str", "default": ""},
        "instance": {"type": "str", "default": ""},
    }
    RULES = {"required_if": [("state", "started", ("project", "runs_dir")), ("state", "linked", ("work_dir", "owner"))]}

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        if given["state"] == "linked":
            return {"changed": False, "node": self._node(given).to_json()}
        cluster = Cluster.from_task_vars(task_vars)
        folder = folder_of(cluster.settings.name)
        if given["state"] == "stopped":
            return {"changed": stop(folder, check=self.check)}
        if given["state"] == "run_stopped":
            store = store_of(cluster.settings.name)
            if given["run_id"] and store and not self.check:
                store.stop(given["run_id"], [given["instance"]] if given["instance"] else [])
            return {"changed": False}
        check_coordinator(str(task_vars["coordinator_host"]))
        file, runs_dir = self._file(given, cluster, task_vars["hostvars"], folder), Path(given["runs_dir"])
        if unknown := set(given["gone"]) - set(cluster.names):
            raise ControlError(f"gone={min(unknown)}: no such node; there are {', '.join(cluster.names)}")
        told = []
        if given["takeover"] and not self.check:
            DesiredStore(folder).strangers([name for name in cluster.names if name not in given["gone"]], file.term)
            told = self._take_up(folder, cluster, runs_dir)
        changed = start(file, folder, check=self.check)
        links = {} if self.check else DesiredStore(folder).read().links
        warnings = [
            f"the control loop does not hear of {node}: {problem}" for node, problem in links.items() if problem
        ]
        if changed and not self.check and (problem := why_not_lasting(folder)):
            warnings.append(f"the control loop does not come back by itself when it or this machine dies: {problem}")
        shown = {"table": "\n".join(told)} if told else {}
        return {"changed": changed, "folder": str(folder), **shown, **({"warnings": warnings} if warnings else {})}

    def _take_up(self, folder: Path, cluster: Cluster, runs_dir: Path) -> list[str]:
        """Take up the runs of the controller that this one takes over from; say which."""
        store = DesiredStore(folder)
        found = found_to_take_up(store, cluster, runs_dir)
        for one in found:
            recover(runs_dir, one.run_id, one.places, experiment_of(cluster, one.run_id))
            store.take_up(one.run_id, runs_dir, one.instances)
        return [one.words(runs_dir) for one in found]

    def _node(self, given: dict[str, Any]) -> NodeToAttend:
        return NodeToAttend(
            command=tuple(self._command()),
            work_dir=given["work_dir"],
            owner=given["owner"],
            memory_percent=given["memory_percent"],
            disk_percent=given["disk_percent"],
            maintenance=given["maintenance"],
        )

    def _command(self) -> list[str]:
        """Return the command that opens a connection to the node's program, as Ansible would open one."""
        program = ["sudo", "-n", NODE_PROGRAM]
        if self._connection.transport == "local":
            return program
        words = ssh_command(self._connection, self._connection.get_option("host"), shlex.join(program))
        if Path(words[0]).name != "ssh":
            raise AnsibleActionFail(f"the control loop needs a login by key, not by {Path(words[0]).name}")
        return [words[0], *OWN, *words[1:]]

    def _file(self, given: dict[str, Any], cluster: Cluster, hostvars: Mapping[str, Any], folder: Path) -> LoopFile:
        settings = cluster.settings
        before = LoopFile.of(folder) if (folder / FILE).is_file() else None
        takeover = given["takeover"] or (before.takeover if before else False)
        return LoopFile(
            cluster=settings.name,
            project=given["project"],
            inventory=_inventory(),
            nodes={name: NodeToAttend.from_json(hostvars[name]["node_linked"]["node"], name) for name in cluster.names},
            interval_seconds=settings.interval_seconds,
            checkpoint_seconds=settings.checkpoint_seconds,
            most_lost_percent=settings.most_lost_percent,
            controller=before.controller
            if before
            else f"{getpass.getuser()}@{socket.gethostname()}:{os.urandom(4).hex()}",
            term=int(time.time()) if before is None or given["takeover"] else before.term,
            takeover=takeover,
            hook=tuple(given["hook"]),
        )


def _inventory() -> tuple[str, ...]:
    """Return ansible-playbook's options for the inventory of this command line."""
    given = [Path(source) for source in context.CLIARGS.get("inventory") or constants.DEFAULT_HOST_LIST]
    return tuple(word for path in given for word in ("-i", str(path.absolute() if path.exists() else path)))
