"""Answers calls as root: the one way by which who logs in to this node can have anything done by root.

`sudo` lets that user run this program, without arguments and by its sha256, and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any, Callable, Dict, Mapping

from contract import ContractError, names
from contract.attention import Attend
from contract.calls import LIMIT, Answer, Call, Collect, Install, Known, Logs, Prepare, Redirect, Start
from contract.json_records import decoded
from contract.statuses import FAILED

from . import artifacts, attendance, connection, journal, known_promises, rules
from .errors import NodeError
from .instances import read_instances
from .systemd_backend import Done, StartFailed, SystemdBackend

LOOK_SECONDS = 0.5
UNREACHED = "UNREACHED"  # the status of an answer that root did not give


def ask(verb: str, given: Mapping[str, Any], check: bool = False) -> Mapping[str, Any]:
    """Have root do something, from a process that need not be root. Raises NodeError, StartFailed."""
    call = Call(verb, given, check)
    answer = perform(call) if os.geteuid() == 0 else _called(call)
    if answer.error:
        raise (StartFailed if answer.status == FAILED else NodeError)(answer.error)
    return answer.result


def root_problem() -> str:
    """Why this user cannot have anything done by root; empty if they can. It is an error too that nothing is asked."""
    answer = _answer("\n")
    return answer.error if answer.status == UNREACHED else ""


def _called(call: Call) -> Answer:
    return _answer(json.dumps(call.to_json()) + "\n")


def _answer(line: str) -> Answer:
    done = subprocess.run(["sudo", "-n", names.NODE_PROGRAM], input=line, capture_output=True, text=True)
    try:
        return Answer.from_json(decoded(done.stdout, names.NODE_PROGRAM), names.NODE_PROGRAM)
    except ContractError as error:
        said = (done.stderr.strip().splitlines() or [str(error)])[-1]
        return Answer(
            error=f"{names.NODE_PROGRAM} cannot be run as root: {said}; deploy.yml sends it, or bootstrap.yml",
            status=UNREACHED,
        )


def serve() -> int:
    """Answer the one call on standard input. Returns the exit status."""
    os.environ.clear()
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        line = sys.stdin.buffer.readline(LIMIT)
        call = Call.from_json(decoded(line, "call"), "call")
    except ContractError as error:
        print(json.dumps(Answer(error=str(error)).to_json()))
        return 1
    if call.verb in STREAMS:
        return _stream(call)
    answer = perform(call)
    print(json.dumps(answer.to_json()), flush=True)
    return bool(answer.error)


def perform(call: Call) -> Answer:
    """Do what the call says; this process is root."""
    os.umask(0o022)  # that of who logged in may keep others from what is made here
    try:
        return Answer(VERBS[call.verb](call))
    except StartFailed as error:
        return Answer(error=str(error), status=FAILED)
    except (NodeError, ValueError, OSError, subprocess.SubprocessError) as error:
        return Answer(error=str(error) or type(error).__name__)


def _start(call: Call) -> Dict[str, Any]:
    given = Start.from_json(call.given, "start")
    local = rules.read()
    rules.check_spec(local, given.launch_spec)
    rules.check_build(local, given.llama_cpp)
    backend = SystemdBackend(given.launch_spec.ref, call.check)
    done = backend.submit(given.launch_spec, given.credentials, given.llama_cpp, given.start_timeout)
    return _result(done, given.launch_spec.dir)


def _redirect(call: Call) -> Dict[str, Any]:
    spec = Redirect.from_json(call.given, "redirect").launch_spec
    rules.check_spec(rules.read(), spec)
    return _result(SystemdBackend(spec.ref, call.check).redirect(spec), spec.dir)


def _stop(call: Call) -> Dict[str, Any]:
    ref = Known.from_json(call.given, "stop").instance_ref
    rules.check_ref(rules.read(), ref)
    return _result(SystemdBackend(ref, call.check).stop(), ref.dir)


def _collect(call: Call) -> Dict[str, Any]:
    given = Collect.from_json(call.given, "collect")
    rules.check_ref(rules.read(), given.instance_ref)
    return _result(SystemdBackend(given.instance_ref, call.check).collect(given.slot), given.instance_ref.dir)


def _result(done: Done, folder: str) -> Dict[str, Any]:
    receipt = {"receipt": done.receipt.to_json()} if done.receipt else {}
    told = {
        "changed": done.changed,
        "status": done.status,
        "diff": done.diff,
        "dir": folder,
        "faults": done.faults,
        "spare": done.spare,
        "slot": done.slot,
    }
    return {**told, **receipt, **({"restored": done.restored.to_json()} if done.restored else {})}


def _logs(call: Call) -> Dict[str, Any]:
    given = Logs.from_json(call.given, "logs")
    ref = given.instance_ref
    rules.check_ref(rules.read(), ref)
    units = [names.unit_name(ref.run_id, ref.id, unit) for unit in (*names.UNITS, *names.RELAYS)]
    deadline = time.monotonic() + given.wait_seconds
    while True:
        # Read the status first, so that everything written before an exit is certainly among the lines.
        found = [one for one in read_instances(ref.work_dir, ref.run_id) if one.id == ref.id]
        alive = bool(found) and found[0].alive
        text, cursor = journal.after(units, given.cursor, given.lines)
        if text or not alive or time.monotonic() >= deadline:
            return {"text": text, "cursor": cursor, "alive": alive}
        time.sleep(LOOK_SECONDS)


def _promises(call: Call) -> Dict[str, Any]:
    return {"promises": known_promises.find_out().to_json()}


def _prepare(call: Call) -> Dict[str, Any]:
    given = Prepare.from_json(call.given, "prepare")
    rules.check_place(rules.read(), given.work_dir, given.owner)
    artifacts.prepare(given.work_dir, given.owner)
    return {}


def _install(call: Call) -> Dict[str, Any]:
    given = Install.from_json(call.given, "install")
    local = rules.read()
    rules.check_place(local, given.work_dir, given.owner)
    items = artifacts.read(given.items)
    for item in items:
        rules.check_artifact(local, item)
    artifacts.install([item for item in items if item.is_missing()], given.work_dir, given.owner)
    for item in items:
        if item.has_stale_link():
            artifacts.relink(item)
    return {}


def _stream(call: Call) -> int:
    try:
        STREAMS[call.verb](call)
    except (NodeError, ContractError, OSError) as error:
        print(f"jarfleet: {call.verb}: {error}", file=sys.stderr)
        return 1
    return 0


def _connect(call: Call) -> None:
    ref = Known.from_json(call.given, "connect").instance_ref
    rules.check_ref(rules.read(), ref)
    connection.connect(ref)


def _attend(call: Call) -> None:
    given = Attend.from_json(call.given, "attend")
    rules.check_place(rules.read(), given.work_dir, given.owner)
    attendance.attend(given, sys.stdin.buffer)


STREAMS: Dict[str, Callable[[Call], None]] = {"connect": _connect, "attend": _attend}


VERBS: Dict[str, Callable[[Call], Dict[str, Any]]] = {
    "start": _start,
    "redirect": _redirect,
    "stop": _stop,
    "collect": _collect,
    "logs": _logs,
    "promises": _promises,
    "prepare": _prepare,
    "install": _install,
}
