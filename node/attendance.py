"""Serves the control loop over a connection that stays open: reports at every change, and takes renewals of leases.

Lines of JSON both ways (`contract.attention`). A change is noticed by inotify on the folders of the instances, so
nothing is asked between two intervals in which nothing happens.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import queue
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, List, Optional

from contract import ContractError, names
from contract.attention import ELSEWHERE, LIMIT, Attend, Renewal, Report
from contract.json_records import Record, decoded, shown

from . import exit_log, held_leases, instances, lease_renewal, rules, shared_folder
from .errors import NodeError
from .probe import node_state, read_only_problem

LOOK_SECONDS = 0.3  # at least, between two looks: an instance may write as often as it likes
RECORD_LIMIT = 4096  # bytes
# inotify(7): a file was closed after writing, or moved, made or removed; what SQLite writes meanwhile is none of these.
IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x8, 0x80, 0x100, 0x200
WATCHED = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE
EVENT_BYTES = 65536
CHANGED, CLOSED = b"changed", b""  # what else is among the lines of the controller: neither is JSON


@dataclass(frozen=True)
class Attended(Record):
    """Which controller may renew leases here, and by which connection of its."""

    controller: str
    term: int
    session: str


def attend(given: Attend, lines: BinaryIO) -> None:
    """Serve one connection until it closes, or another one takes its place. Raises NodeError, OSError.

    lines: what the controller sends.
    """
    session = _admit(given)
    news: queue.Queue[bytes] = queue.Queue()
    changes = Changes(given.work_dir, lambda: news.put(CHANGED))
    threading.Thread(target=_read, args=(lines, news), daemon=True).start()
    refused: List[str] = []
    while True:
        changes.watch_new()
        closing = "" if _attended(given.work_dir) == session else "another connection attends this node now"
        _say(_report(given, refused, closing))
        if closing:
            return
        refused = []
        looked = time.monotonic()
        for line in _next(news, given.interval_seconds):
            if line == CLOSED:
                return
            if line != CHANGED and (problem := _renew(given, line)):
                refused.append(problem)
        time.sleep(max(0.0, looked + LOOK_SECONDS - time.monotonic()))


class Changes:
    """Tells when something is written in the folders of a work dir's instances."""

    def __init__(self, work_dir: str, tell: Callable[[], None]) -> None:
        self._root, self._tell = Path(names.instances_folder(work_dir)), tell
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify: int = self._libc.inotify_init1(os.O_CLOEXEC)
        if self._inotify < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._fresh = threading.Event()  # nobody was told since the last look
        threading.Thread(target=self._wait, daemon=True).start()

    def watch_new(self) -> None:
        """Watch also what has come since; from now on a change is told, once."""
        self._fresh.set()
        runs = _folders(self._root)
        own = [folder for run in runs for folder in _folders(run)]
        for folder in (self._root, *runs, *own, *(folder / "logs" for folder in own)):
            self._libc.inotify_add_watch(self._inotify, os.fsencode(str(folder)), WATCHED)  # again is no fault

    def _wait(self) -> None:
        while os.read(self._inotify, EVENT_BYTES):
            if self._fresh.is_set():
                self._fresh.clear()
                self._tell()


def _folders(path: Path) -> List[Path]:
    try:
        return [entry for entry in path.iterdir() if entry.is_dir() and not entry.is_symlink()]
    except OSError:
        return []


def _read(lines: BinaryIO, news: queue.Queue[bytes]) -> None:
    """Pass on what the controller sends; CLOSED is the last."""
    while True:
        line = lines.readline(LIMIT)
        news.put(line)
        if not line:
            return


def _next(news: queue.Queue[bytes], seconds: float) -> Iterator[bytes]:
    """What has come within so many seconds: as soon as something has, all of it."""
    try:
        yield news.get(timeout=seconds)
        while True:
            yield news.get_nowait()
    except queue.Empty:
        return


def _renew(given: Attend, line: bytes) -> str:
    """Renew a lease. Returns why it was refused; empty if it was not."""
    try:
        renewal = Renewal.from_json(decoded(line, "renewal"), "renewal")
        ref = renewal.instance_ref
        rules.check_ref(rules.read(), ref)
        if ref.work_dir != given.work_dir:
            raise NodeError(f"{ref.work_dir}: not what is attended")
        lease_renewal.renew(ref, renewal.lease)
    except (NodeError, ContractError, OSError, subprocess.SubprocessError) as error:
        return str(error)
    return ""


def _report(given: Attend, refused: List[str], closing: str) -> Report:
    clock = held_leases.clock()
    found = instances.read_instances(given.work_dir)
    unfit = filter(None, [read_only_problem(given.work_dir)])
    state = node_state(given.work_dir, found, given.memory_percent, given.disk_percent, list(unfit))
    return Report(exit_log.boot(), clock, state, tuple(refused), closing)


def _say(report: Report) -> None:
    print(json.dumps(report.to_json()), flush=True)


def _admit(given: Attend) -> str:
    """Let the controller in, and write down that it is the one. Returns its session. Raises NodeError."""
    path = _record(given.work_dir)
    before = _known(path)
    takes_over = given.takeover and before is not None and given.term > before.term
    if before and before.controller != given.controller and not takes_over:
        raise NodeError(
            f"{ELSEWHERE} {shown(before.controller)}, and {shown(given.controller)} was not told to take"
            " over from it: control.yml -e takeover=true, on the one that is to do so"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    session = os.urandom(8).hex()
    shared_folder.write(path, json.dumps(Attended(given.controller, given.term, session).to_json()), mode=0o600)
    return session


def _attended(work_dir: str) -> str:
    """The session that renews leases here now."""
    found = _known(_record(work_dir))
    return found.session if found else ""


def _known(path: Path) -> Optional[Attended]:
    try:
        return Attended.from_file(path, RECORD_LIMIT, 0)
    except FileNotFoundError:
        return None


def _record(work_dir: str) -> Path:
    """Where it is written down; the path of a work dir may have any form."""
    return Path(names.CONTROLLERS_FOLDER) / f"{hashlib.sha256(work_dir.encode()).hexdigest()[:16]}.json"
