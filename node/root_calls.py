"""What root does when it is called (`helper`): each call is checked against the node's own rules first."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any, Callable, Dict

from contract import ContractError, names
from contract.attention import Attend
from contract.calls import Answer, Call, Collect, Known, Logs, Redirect, Start
from contract.statuses import FAILED

from . import attendance, connection, installation, journal, known_promises, rules
from .errors import NodeError, StartFailed
from .instances import read_instances
from .systemd_backend import Done, SystemdBackend

LOOK_SECONDS = 0.5


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
    installation.prepare(call.given)
    return {}


def _install(call: Call) -> Dict[str, Any]:
    installation.install(call.given)
    return {}


def stream(call: Call) -> bool:
    """Serve a call whose answer is a stream; this process is root. Returns whether it failed."""
    try:
        STREAMS[call.verb](call)
    except (NodeError, ContractError, OSError) as error:
        print(f"jarfleet: {call.verb}: {error}", file=sys.stderr)
        return True
    return False


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
