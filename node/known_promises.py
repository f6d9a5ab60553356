"""Finds out what this node can promise about its instances, by trying it in a unit as an instance has it."""

from __future__ import annotations

import inspect
import json
import secrets
import subprocess
import time
from pathlib import Path

from contract import promises
from contract.json_records import decoded
from contract.promises import Promises

from . import promise_trial, sandbox, shared_folder, systemd
from .errors import NodeError

MEMORY = 64 * 2**20  # bytes that the trial may have; it asks for more
SECONDS = 60
MARK_SECONDS = 5


def read() -> Promises | None:
    """What was found out since this boot; None before that. Raises ContractError."""
    try:
        return Promises.from_file(Path(promises.FILE), promises.LIMIT, 0)
    except FileNotFoundError:
        return None


def find_out() -> Promises:
    """Try it, as root, unless that was done since this boot. Raises NodeError, OSError, ContractError."""
    known = read()
    if known is None:
        known = _try()
        folder = Path(promises.FILE).parent
        folder.mkdir(mode=0o755, exist_ok=True)
        shared_folder.write(Path(promises.FILE), json.dumps(known.to_json()) + "\n")
    return known


def _try() -> Promises:
    mark = Path(f"/run/jarfleet-trial-{secrets.token_hex(8)}")
    properties = [
        *sandbox.known_directives(),
        "DynamicUser=yes",
        "PrivateNetwork=yes",
        "PrivateTmp=yes",
        "IPAddressDeny=any",
        f"MemoryMax={MEMORY}",
        "MemorySwapMax=0",
        "CPUQuota=50%",
        "OOMPolicy=continue",
        f"RuntimeMaxSec={SECONDS}",
        f"ExecStopPost=+/usr/bin/touch {mark}",
    ]
    program = ["/usr/bin/python3", "-I", "-c", inspect.getsource(promise_trial), str(2 * MEMORY)]
    done = subprocess.run([*sandbox.run(properties), *program], stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise NodeError(f"this node cannot run a unit as instances need it: {said or done.returncode}")
    kept = Promises.from_json({"kept": decoded(done.stdout, "the trial of the node's promises")}, "trial").kept
    return Promises({**kept, "exit_records": _appears(mark)}, systemd.version())


def _appears(mark: Path) -> bool:
    """Whether the unit leaves its mark, which may be a moment after its end is known; it is removed then."""
    deadline = time.monotonic() + MARK_SECONDS
    while not mark.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    mark.unlink()
    return True
