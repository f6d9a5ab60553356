"""Tries, as an instance and inside its unit, what must fail there and what must work (`contract.receipt`)."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Sequence, Tuple

from contract.receipt import Attempt, Attempts, Result

CONNECT_SECONDS = 2
PATIENCE_SECONDS = 60  # for what must work, and may still be starting
RUN_SECONDS = 10


def results(asked: Attempts) -> List[Result]:
    """Try all of them."""
    return [_result(attempt, asked.lacking) for attempt in asked.attempts]


def _result(attempt: Attempt, lacking: Tuple[str, ...]) -> Result:
    deadline = time.monotonic() + (PATIENCE_SECONDS if attempt.expected else 0)
    while True:
        try:
            detail, succeeded = KINDS[attempt.kind](*attempt.target), True
        except OSError as error:
            detail, succeeded = error.strerror or type(error).__name__, False
        except subprocess.SubprocessError as error:
            detail, succeeded = str(error), False
        if succeeded or time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    kept = attempt.expected in (None, succeeded) or attempt.promise in lacking
    return Result(attempt.name, succeeded, kept, detail)


def _connect(address: str, port: str) -> str:
    """Whether packets come through: a refusal is an answer too, but for that of the network's own loopback."""
    try:
        socket.create_connection((address, int(port)), CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        if ipaddress.ip_address(address).is_loopback:
            raise
        return "somebody is there, and refuses"
    return "connected"


def _create(folder: str) -> str:
    path = Path(folder) / f".attempt.{os.getpid()}"
    path.write_text("")
    path.unlink()
    return "written"


def _exists(path: str) -> str:
    os.stat(path)
    return "there"


def _list(folder: str, *allowed: str) -> str:
    return _some(name for name in os.listdir(folder) if name not in allowed)


def _processes() -> str:
    """Those that are not in this instance's slice."""
    parents = {Path(line.split(":", 2)[2]).parent.name for line in Path("/proc/self/cgroup").read_text().splitlines()}
    own = [name for name in parents if name.startswith("jarfleet-")]
    return _some(path.parent.name for path in Path("/proc").glob("[0-9]*/cgroup") if _of_another(path, own))


def _of_another(path: Path, own: Sequence[str]) -> bool:
    try:
        groups = path.read_text()
    except OSError:
        return False
    return not any(name in groups for name in own)


def _read(path: str) -> str:
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    return "opened"


def _run(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=RUN_SECONDS)
    if done.returncode != 0:
        raise PermissionError(errno.EPERM, f"exited with {done.returncode}")
    return "done"


def _write(path: str) -> str:
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
    return "opened"


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    if not found:
        raise FileNotFoundError(errno.ENOENT, "nothing there")
    return ", ".join(found[:3])


KINDS: Dict[str, Callable[..., str]] = {
    "connect": _connect,
    "create": _create,
    "exists": _exists,
    "list": _list,
    "processes": _processes,
    "read": _read,
    "run": _run,
    "write": _write,
}
