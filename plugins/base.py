"""What all actions of this project share: validating options, one library call, and turning our errors into messages."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from contract import ContractError
from fleet.base.errors import FleetError, PlanChanged, PlanFileError, ReplayRejected
from fleet.base.terminal import plain
from placement import BadInput, Infeasible

ERRORS = (BadInput, Infeasible, FleetError, ContractError)
PATIENCE_SECONDS = 30  # before a person is told what is waited for
Result = dict[str, Any]


class Action(ActionBase):
    """An action that calls a library. A subclass names its options in ARGUMENTS and does its work in `act`."""

    ARGUMENTS: ClassVar[dict[str, dict[str, Any]]] = {}
    RULES: ClassVar[dict[str, Any]] = {}  # such as required_if

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> Result:
        """Run the action; Ansible's entry point."""
        result: Result = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(self.ARGUMENTS, **self.RULES)
        try:
            return {**result, **self.act(given, task_vars or {})}
        except ERRORS as error:
            return {**result, **failure(error)}

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        """Do the action's work with its options, and return what is added to the task's result."""
        raise NotImplementedError

    def ask(
        self, module: str, options: Mapping[str, Any], task_vars: Mapping[str, Any], seconds: float, waiting: str = ""
    ) -> Result:
        """Run a module on the node and return its result. Raise AnsibleConnectionFailure if that takes too long.

        A connection that is alive says nothing of what is at its other end: a node may take an answer for ever.
        waiting: what is waited for, told every PATIENCE_SECONDS; empty where waiting is usual.
        """
        started = time.monotonic()

        def tell(signum: int, frame: Any) -> None:
            waited = time.monotonic() - started
            if waited > seconds - 1:
                raise AnsibleConnectionFailure(f"the node did not answer within {seconds:.0f} s")
            self.show(f"  {waiting}: for {waited:.0f} s so far")

        before = signal.signal(signal.SIGALRM, tell)
        tick = min(seconds, PATIENCE_SECONDS) if waiting else seconds
        signal.setitimer(signal.ITIMER_REAL, tick, tick)
        try:
            answer: Result = self._execute_module(module, dict(options), task_vars=task_vars)
            return answer
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def show(self, line: str) -> None:
        """Print a line while the action goes on."""
        self._display.display(plain(line))

    @property
    def check(self) -> bool:
        """Whether this is check mode, in which nothing may be changed."""
        return bool(self._task.check_mode)


class LocalAction(Action):
    """An action that contacts no node."""

    _requires_connection = False


def failure(error: Exception) -> Result:
    """Return an error of ours as a task's result."""
    details: Result = {}
    message = str(error)
    match error:
        case BadInput():
            faults = list(dict.fromkeys(map(str, error.faults)))
            message, details = "\n".join(["the input is wrong:", *faults]), {"faults": faults}
        case Infeasible():
            details = error.to_json()
        case PlanChanged():
            details = {"changes": error.changes}
        case PlanFileError():
            details = {"changes": []}
        case ReplayRejected():
            details = {"changes": error.differences}
    return {"failed": True, "msg": message, **details}
