"""Action plugin `watch`: see plugins/modules/watch.py for its documentation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleConnectionFailure

from contract.events import Event, NodeLost
from contract.node_state import NodeState
from fleet.observe.changes import RunOnNode, words
from fleet.record.run_folder import Run
from plugins.base import Action, Result

RETRY_SECONDS = 2
ANSWER_SECONDS = 30  # beyond those for which the node was asked to wait


class ActionModule(Action):
    """Follows a run's instances on one node until they have ended. Reconnects after a lost connection."""

    ARGUMENTS = {
        "run_id": {"type": "str", "required": True},
        "work_dir": {"type": "str", "required": True},
        "runs_dir": {"type": "path", "required": True},
        "interval_seconds": {"type": "float", "default": 30},
        "duration_seconds": {"type": "float", "default": 0},
        "lost_seconds": {"type": "float", "default": 60},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        self._node = str(task_vars["inventory_hostname"])
        self._run = Run.open(given["runs_dir"], given["run_id"])
        with self._run.watched():
            return self._watch(given, task_vars)

    def _watch(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        seen_run, lost = RunOnNode(self._node, self._run.epochs), False
        started = heard = time.monotonic()
        last_heard, seen, silent = datetime.now(UTC), "", False
        while True:
            left = (
                given["duration_seconds"] - (time.monotonic() - started) if given["duration_seconds"] else float("inf")
            )
            wait = max(0.0, min(given["interval_seconds"], left))
            try:
                answer = self._ask(given, seen, wait, task_vars)
            except AnsibleConnectionFailure as error:
                if time.monotonic() - heard > given["lost_seconds"]:
                    self._report(NodeLost(self._node, last_heard.isoformat(timespec="seconds"), str(error)))
                    lost = True
                    break
                if not silent:
                    silent = True
                    self._show("does not answer, trying again")
                self._connection.reset()
                time.sleep(RETRY_SECONDS)
                continue
            heard, silent, seen, last_heard = time.monotonic(), False, answer["seen"], datetime.now(UTC)
            events, lines = seen_run.look(NodeState.from_json(answer["state"], self._node))
            for event in events:
                self._report(event)
            for line in lines:
                self._show(line)
            if not seen_run.alive or left <= 0:
                break
        return {"changed": False, "lost": lost, "statuses": seen_run.statuses}

    def _ask(self, given: dict[str, Any], seen: str, wait: float, task_vars: Mapping[str, Any]) -> dict[str, Any]:
        """Return the node's state as soon as something changes. Raise AnsibleConnectionFailure."""
        asked = {"work_dir": given["work_dir"], "wait_run": given["run_id"], "wait_seconds": wait, "seen": seen}
        answer = self.ask("node_state", asked, task_vars, wait + ANSWER_SECONDS)
        if answer.get("failed"):  # a node that is shutting down answers, but its systemd does not
            raise AnsibleConnectionFailure(str(answer.get("msg")))
        return answer

    def _report(self, event: Event) -> None:
        """Append one event to the record, and show one line."""
        self._run.append(event)
        self._show(words(event))

    def _show(self, line: str) -> None:
        self.show(f"  {self._node}: {line}")
