"""Calls the node's program: the one way by which who logs in to this node can have anything done by root.

`sudo` lets that user run this program, without arguments and by its sha256, and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any, Mapping

from contract import ContractError, names
from contract.calls import Answer, Call
from contract.json_records import decoded
from contract.statuses import FAILED

from .errors import NodeError, StartFailed

UNREACHED = "UNREACHED"  # the status of an answer that root did not give


def ask(verb: str, given: Mapping[str, Any], check: bool = False) -> Mapping[str, Any]:
    """Have root do something, from a process that need not be root. Raises NodeError, StartFailed."""
    answer = _answer(json.dumps(Call(verb, given, check).to_json()) + "\n")
    if answer.error:
        raise (StartFailed if answer.status == FAILED else NodeError)(answer.error)
    return answer.result


def root_problem() -> str:
    """Why this user cannot have anything done by root; empty if they can. It is an error too that nothing is asked."""
    answer = _answer("\n")
    return answer.error if answer.status == UNREACHED else ""


def _answer(line: str) -> Answer:
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    said = ""
    try:
        done = subprocess.run([*as_root, names.NODE_PROGRAM], input=line, capture_output=True, text=True)
        said = (done.stderr.strip().splitlines() or [""])[-1]
        return Answer.from_json(decoded(done.stdout, names.NODE_PROGRAM), names.NODE_PROGRAM)
    except (ContractError, OSError) as error:
        problem = f"{names.NODE_PROGRAM} cannot be run as root: {said or error}; deploy.yml sends it, or bootstrap.yml"
        return Answer(error=problem, status=UNREACHED)
