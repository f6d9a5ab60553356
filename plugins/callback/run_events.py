"""Callback `run_events`: writes every failure after a run's record exists into that record."""

from __future__ import annotations

DOCUMENTATION = r"""
name: run_events
type: notification
short_description: Write failures and the end of a playbook into the run's record
description:
  - From the moment that M(run_record) has created a run, each failure that is not ignored, and the end, go to its C(events.jsonl).
  - A callback sees every failure wherever it happens, a node that is lost included, which no C(rescue) does.
requirements: [enabled in C(callbacks_enabled)]
author: [Jarfleet]
"""

from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

from contract.events import Damaged, HostUnreachable, PlaybookEnded, TaskFailed
from fleet.record.run_folder import Run

MAX_REASON = 2000  # characters


class CallbackModule(CallbackBase):
    """Appends events to one run's record."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "run_events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._run: Run | None = None

    def v2_runner_on_ok(self, result: Any) -> None:
        if result.task.action == "run_record" and "run_id" in result.result:
            path = Path(result.result["path"])
            self._run = Run(path) if path.is_dir() and not result.task.check_mode else None
        if self._run and result.task.action == "push":
            for name in result.result.get("damaged", ()):
                self._run.append(Damaged(result.host.get_name(), name))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if self._run and not ignore_errors:
            self._run.append(TaskFailed(*_described(result)))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        if self._run and not result.task.ignore_unreachable:
            self._run.append(HostUnreachable(*_described(result)))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if self._run:
            self._run.append(PlaybookEnded(ok=not stats.failures and not stats.dark))


def _described(result: Any) -> tuple[str, str, str]:
    """Return the host, the task and the reason of a result."""
    task = result.task.get_name().rpartition(" : ")[2]
    return result.host.get_name(), task, str(result.result.get("msg", ""))[:MAX_REASON]
