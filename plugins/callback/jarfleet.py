"""Stdout callback `jarfleet`: shows a person what happens."""

from __future__ import annotations

DOCUMENTATION = r"""
name: jarfleet
type: stdout
short_description: What changes, what fails and what matters, a line each
description:
  - Names each play that does something, and each task on each host that changes something or fails. A play without hosts, or
    whose tasks only assert and find nothing wrong, is not named. What a plugin returns as C(table) is printed as it
    is, what it returns as C(msg) with a failure too; long work reports its progress by itself.
  - Colours only on a terminal. With C(-v) it is Ansible's default callback.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
author: [Jarfleet]
"""

import time
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.plugins.callback.default import CallbackModule as Default

from fleet.base.terminal import plain

ASSERT = "ansible.builtin.assert"
ARGUMENTS = "ansible.builtin.validate_argument_spec"


class CallbackModule(Default):
    """Ansible's default callback with -v; otherwise only what changes, what fails, and tables."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "jarfleet"

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()
        self._tasks = 0
        self._heading = ""  # of the play, until it is printed

    def _print(self, text: str, color: str | None = None) -> None:
        """Print text of any origin: a node's and an instance's words may hold what a terminal acts on."""
        self._display.display(plain(text), color=color)

    def _print_heading(self) -> None:
        """Print the play's name, once."""
        if self._heading:
            self._print(self._heading, color=C.COLOR_HIGHLIGHT)
            self._heading = ""

    def _line(self, sign: str, result: Any, text: str, color: str) -> None:
        self._print_heading()
        self._print(f"  {sign} {self.host_label(result)}: {text}", color=color)

    def _table(self, result: Any) -> None:
        if table := result.result.get("table"):
            self._print("\n" + "\n".join(f"  {line}".rstrip() for line in str(table).splitlines()) + "\n")

    def v2_playbook_on_start(self, playbook: Any) -> None:
        super().v2_playbook_on_start(playbook)
        limit = context.CLIARGS.get("subset")
        if limit and "localhost" not in limit:
            self._display.warning(
                f"--limit {limit} leaves out localhost, which decides, and the instances: nothing will happen."
                f" Give --limit {limit},localhost,instances"
            )

    def v2_playbook_on_play_start(self, play: Any) -> None:
        if self._display.verbosity:
            super().v2_playbook_on_play_start(play)
        else:
            self._play = play
            self._heading = play.get_name().strip()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._tasks += task.action != ARGUMENTS  # Ansible's own check of a role's arguments: it asks no node
        if self._display.verbosity:
            super().v2_playbook_on_task_start(task, is_conditional)
        elif task.action != ASSERT:
            self._print_heading()

    def v2_runner_on_ok(self, result: Any) -> None:
        if self._display.verbosity:
            super().v2_runner_on_ok(result)
        elif result.result.get("changed"):
            self._line("*", result, result.task.get_name().rpartition(" : ")[2], C.COLOR_CHANGED)
        self._handle_warnings(result.result)  # removes them from the result, so that none is shown twice
        self._table(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if self._display.verbosity:
            super().v2_runner_on_failed(result, ignore_errors)
            return
        self._line("x", result, f"{result.task.get_name().rpartition(' : ')[2]}: FAILED", C.COLOR_ERROR)
        results = [one for one in result.result.get("results", []) if one.get("failed")] or [result.result]
        for text in dict.fromkeys(str(one.get("msg", one)) for one in results):
            self._print("\n".join(f"    {line}" for line in text.splitlines()), color=C.COLOR_ERROR)
        self._table(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        if self._display.verbosity:
            super().v2_runner_on_unreachable(result)
        else:
            self._line(
                "!", result, f"does not answer ({str(result.result.get('msg', '')).strip()})", C.COLOR_UNREACHABLE
            )

    def v2_runner_on_skipped(self, result: Any) -> None:
        if self._display.verbosity:
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        if self._display.verbosity:
            super().v2_runner_item_on_skipped(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        if self._display.verbosity:
            super().v2_runner_item_on_ok(result)

    def v2_on_file_diff(self, result: Any) -> None:
        """Show every diff, also of a task that changes nothing: a plan has a diff too."""
        for one in result.result.get("results", [result.result]):
            if one.get("diff"):
                self._print(self._get_diff(one["diff"]))

    def v2_playbook_on_no_hosts_matched(self) -> None:
        if self._display.verbosity:
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        if self._display.verbosity:
            super().v2_playbook_on_no_hosts_remaining()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if self._display.verbosity:
            super().v2_playbook_on_stats(stats)
            return
        summary = {host: stats.summarize(host) for host in sorted(stats.processed)}
        failed = [host for host, counts in summary.items() if counts["failures"] or counts["unreachable"]]
        changed = [host for host, counts in summary.items() if counts["changed"]]
        parts = [f"failed: {', '.join(failed)}"] if failed else []
        parts.append(f"changed: {', '.join(changed)}" if changed else "nothing changed")
        self._display.display(
            f"{'; '.join(parts)} ({self._tasks} tasks, {time.monotonic() - self._started:.1f} s)",
            color=C.COLOR_ERROR if failed else C.COLOR_CHANGED if changed else C.COLOR_OK,
        )
