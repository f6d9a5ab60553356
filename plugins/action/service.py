"""Action plugin `service`: see plugins/modules/service.py for its documentation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure

from contract.node_state import InstanceState, NodeState
from fleet.control.told import problems
from fleet.observe import service_words
from fleet.observe.cluster import Cluster
from plugins.base import Action, Result

LOOK_SECONDS = 2
ANSWER_SECONDS = 30


class ActionModule(Action):
    """Takes a node out of service and puts it back, by a person's word; waits until it is empty."""

    ARGUMENTS = {
        "state": {"type": "str", "required": True, "choices": ["maintenance", "drained", "in_service", "empty"]},
        "node": {"type": "str", "required": True},
        "work_dir": {"type": "path", "default": ""},
        "seconds": {"type": "float", "default": 0},
    }
    RULES = {"required_if": [("state", "empty", ("work_dir",))]}

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        cluster, node = Cluster.from_task_vars(task_vars), given["node"]
        if node not in cluster.names:
            raise AnsibleActionFail(f"node={node}: no such node; there are {', '.join(cluster.names)}")
        name = cluster.settings.name
        if given["state"] == "empty":
            return {"changed": False} if self.check else self._wait(given, name, task_vars)
        word = "" if given["state"] == "in_service" else given["state"]
        before = service_words.read(name).get(node, "")
        changed = service_words.write(name, node, word, check=self.check)
        return {"changed": changed, "before": before}

    def _wait(self, given: dict[str, Any], cluster: str, task_vars: Mapping[str, Any]) -> Result:
        """Wait until nothing is alive on the node; tell what is there, and why it is not moved."""
        deadline = time.monotonic() + given["seconds"] if given["seconds"] else float("inf")
        told, looked = "", False
        while alive := self._alive(given, task_vars):
            names = ", ".join(f"{one.id} of {one.run_id}" for one in alive)
            why = problems(cluster, {(one.run_id, one.id) for one in alive})
            if why and looked:  # not what was true before the loop has seen the word for this node
                raise AnsibleActionFail(f"{given['node']} still holds {names}; it cannot be moved: {why}")
            stays = ", ".join(f"{one.id} of {one.run_id}" for one in alive if not one.leased)
            line = f"  {given['node']} still holds {names}" + (f"; nobody moves {stays}, so its end" if stays else "")
            if line != told:
                told = line
                self.show(f"{line} is waited for" if stays else line)
            if time.monotonic() > deadline:
                raise AnsibleActionFail(f"{given['node']} still holds {names} after {given['seconds']:.0f} s")
            time.sleep(LOOK_SECONDS)
            looked = True
        return {"changed": False}

    def _alive(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> list[InstanceState]:
        answer = self.ask("node_state", {"work_dir": given["work_dir"]}, task_vars, ANSWER_SECONDS)
        if answer.get("failed"):
            raise AnsibleConnectionFailure(str(answer.get("msg")))
        return [one for one in NodeState.from_json(answer["state"], given["node"]).instances if one.alive]
