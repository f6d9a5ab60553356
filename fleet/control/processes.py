"""Starts and stops the control loop of a cluster as a process of its own, on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fleet.base.errors import ControlError
from fleet.control.desired_store import NOT_YET, DesiredStore
from fleet.control.loop_file import FILE, LoopFile
from fleet.control.one_at_a_time import holder
from fleet.control.systemd_unit import SystemdUnit

LOG = "loop.log"
WAIT_SECONDS = 20.0
LOOK_SECONDS = 0.05


def check_coordinator(host: str) -> None:
    """Raise ControlError unless that is this machine: a loop is started where it is to run."""
    if host in ("localhost", socket.gethostname(), socket.getfqdn()):
        return
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        addresses = set()
    for address in addresses:
        try:
            family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((str(address), 0))  # only to an address of this machine's
                return
        except OSError:
            continue
    raise ControlError(f"coordinator_host: {host} is not this machine ({socket.gethostname()}): start it there")


def start(file: LoopFile, folder: Path, *, check: bool = False) -> bool:
    """Start the loop, and again where it runs with other settings, and wait until it has tried to reach each node.

    Return whether that changed anything. Raise ControlError when it does not come up.
    """
    same = (folder / FILE).is_file() and LoopFile.of(folder) == file
    if holder(folder) and same:
        return False
    if check:
        return True
    stop(folder)
    file.write(folder)
    DesiredStore(folder).links(dict.fromkeys(file.nodes, NOT_YET))
    unit = SystemdUnit.of(folder)
    if not unit.problem():
        unit.start(file.project)
        has_given_up: Callable[[], bool] = unit.has_given_up
    else:
        has_given_up = _in_background(file, folder)
    _wait(lambda: has_given_up() or holder(folder) is not None)
    store = DesiredStore(folder)
    _wait(lambda: has_given_up() or NOT_YET not in store.read().links.values())
    if has_given_up():
        last = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        raise ControlError(f"the control loop did not come up; the end of {folder / LOG}: {' | '.join(last)}")
    return True


def why_not_lasting(folder: Path) -> str:
    """Return why the loop does not come back by itself, when it dies or with this machine; empty if it does."""
    unit = SystemdUnit.of(folder)
    return "" if unit.path.exists() else unit.problem()


def stop(folder: Path, *, check: bool = False) -> bool:
    """Stop the loop, and wait for its end. Return whether there was one. Raise ControlError when it does not end."""
    found, unit = holder(folder), SystemdUnit.of(folder)
    has_unit = unit.path.exists()
    if check or not (found or has_unit):
        return bool(found or has_unit)
    if has_unit:
        unit.stop()
        found = holder(folder)  # one that was begun before there was a unit
    if found is None:
        return True
    if found.host != socket.gethostname() or not found.pid:
        raise ControlError(f"the control loop is {found.words}: stop it there")
    os.kill(found.pid, signal.SIGTERM)
    if not _wait(lambda: holder(folder) is None):
        raise ControlError(
            f"the control loop, {found.words}, does not end within {WAIT_SECONDS:.0f} s; see {folder / LOG}"
        )
    return True


def _in_background(file: LoopFile, folder: Path) -> Callable[[], bool]:
    """Start it as a process of its own, where there is no systemd. Return what tells whether it has ended."""
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "fleet.control", str(folder)],
            cwd=file.project, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    return lambda: process.poll() is not None


def _wait(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True
