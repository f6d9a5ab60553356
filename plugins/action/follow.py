"""Action plugin `follow`: see plugins/modules/follow.py for its documentation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure

from plugins.base import Action, Result

WAIT_SECONDS = 20
RETRY_SECONDS = 2
ANSWER_SECONDS = 30  # beyond those for which the node was asked to wait


class ActionModule(Action):
    """Prints an instance's journal as it grows, until the instance has ended or the user interrupts."""

    ARGUMENTS = {
        "instance_ref": {"type": "dict", "required": True},
        "lines": {"type": "int", "default": 100},
        "follow": {"type": "bool", "default": True},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        name, follow = task_vars["inventory_hostname"], given.pop("follow")
        cursor, shown = "", 0
        while True:
            try:
                wait = WAIT_SECONDS if cursor else 0
                asked = {**given, "cursor": cursor, "wait_seconds": wait}
                answer = self.ask("journal", asked, task_vars, wait + ANSWER_SECONDS)
            except AnsibleConnectionFailure:
                if not follow or not cursor:
                    raise
                self.show(f"{name}: does not answer, trying again")
                self._connection.reset()
                time.sleep(RETRY_SECONDS)
                continue
            if answer.get("failed"):
                return answer
            for line in answer["text"]:
                self.show(f"{name}: {line}")
            shown, cursor = shown + len(answer["text"]), answer["cursor"]
            if not follow or not answer["alive"]:
                return {"changed": False, "lines": shown}
