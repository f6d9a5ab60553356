"""Action plugin `watch`: see plugins/modules/watch.py for its documentation."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from fleet.record.run_folder import Run
from placement.adapters.hostvars import HOLDING

RETRY_SECONDS = 2


class ActionModule(ActionBase):
    """Follows a run's instances on one node until they have ended. A lost connection is taken up again."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "run_id": {"type": "str", "required": True},
                "work_dir": {"type": "str", "required": True},
                "runs_dir": {"type": "path", "required": True},
                "interval_seconds": {"type": "float", "default": 30},
                "duration_seconds": {"type": "float", "default": 0},
                "lost_seconds": {"type": "float", "default": 60},
            }
        )
        self._node = (task_vars or {})["inventory_hostname"]
        self._run = Run.open(given["runs_dir"], given["run_id"])
        started = heard = time.monotonic()
        last_heard = datetime.now(UTC)
        known: dict[str, dict[str, Any]] = {}
        seen, health, silent, lost = "", "HEALTHY", False, False
        while True:
            left = (
                given["duration_seconds"] - (time.monotonic() - started) if given["duration_seconds"] else float("inf")
            )
            wait = max(0.0, min(given["interval_seconds"], left))
            try:
                answer = self._execute_module(
                    "node_state",
                    {"work_dir": given["work_dir"], "wait_run": given["run_id"], "wait_seconds": wait, "seen": seen},
                    task_vars=task_vars,
                )
                if answer.get("failed"):  # a node that goes down answers, but its systemd does not
                    raise AnsibleConnectionFailure(str(answer.get("msg")))
            except AnsibleConnectionFailure as error:
                if time.monotonic() - heard > given["lost_seconds"]:
                    self._tell("node_lost", last_heard=last_heard.isoformat(timespec="seconds"), reason=str(error))
                    lost = True
                    break
                if not silent:
                    silent = True
                    self._display.display(f"  {self._node}: does not answer, trying again")
                self._connection.reset()
                time.sleep(RETRY_SECONDS)
                continue
            heard, silent, seen = time.monotonic(), False, answer["seen"]
            last_heard = datetime.now(UTC)
            if answer["state"]["status"] != health:
                health = answer["state"]["status"]
                self._tell("node_status", status=health, reasons=answer["state"]["reasons"])
            now = {instance["id"]: instance for instance in answer["state"]["instances"]}
            for id, instance in now.items():
                self._report(id, known.get(id), instance)
            known = now
            if not any(instance["status"] in HOLDING for instance in known.values()) or left <= 0:
                break
        return {**result, "changed": False, "lost": lost, "statuses": {id: i["status"] for id, i in known.items()}}

    def _report(self, id: str, before: dict[str, Any] | None, now: dict[str, Any]) -> None:
        """One line for a person, one event for the record, for whatever changed."""
        before = before or {"status": "", "deaths": {}, "progress": {}}
        for unit, count in now["deaths"].items():
            if count > before["deaths"].get(unit, 0):
                self._tell("died", instance=id, unit=unit, deaths=count)
        progress = now["progress"]
        if now["status"] != before["status"]:
            self._tell("status", instance=id, status=now["status"])
        elif progress and progress.get("round") != before["progress"].get("round"):
            told = f"round {progress.get('round')} of {progress.get('rounds')}, cycle {progress.get('cycle')}"
            self._display.display(f"  {self._node}: {id} {told}")

    def _tell(self, event: str, **data: Any) -> None:
        self._run.event(event, node=self._node, **data)
        words = " ".join(str(value) for value in data.values())
        self._display.display(f"  {self._node}: {event.replace('_', ' ')} {words}")
