"""One control loop a cluster: it holds a lock as long as it lives, and the lock says who it is."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from contract.json_records import ContractError, Record, decoded
from fleet.base.errors import ControlError

LOCK = "lock"


@dataclass(frozen=True)
class Holder(Record):
    """The process that is the loop. since: ISO 8601, UTC."""

    pid: int
    host: str
    since: str

    @property
    def words(self) -> str:
        """It, for a person."""
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextmanager
def held(folder: Path) -> Iterator[Callable[[], None]]:
    """Be the loop of this folder; what is yielded says that it has come up. Raise ControlError if there is one."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _is_locked(descriptor):
            if first := holder(folder):
                raise ControlError(f"a control loop runs already: {first.words}; there is one at a time")
            time.sleep(0.01)  # it was somebody who asked who has it
        os.ftruncate(descriptor, 0)
        me = Holder(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
        text = json.dumps(me.to_json()).encode()

        def announce() -> None:
            os.pwrite(descriptor, text, 0)

        yield announce
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(folder: Path) -> Holder | None:
    """Return who is the loop of this folder now; None if nobody is."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 4096, 0)
    else:
        return None
    finally:
        os.close(descriptor)
    try:
        return Holder.from_json(decoded(text, LOCK), LOCK)
    except ContractError:
        return Holder(0, "this machine", "a moment ago")  # it has the lock, and has not yet come up
