"""Keeps an instance's folder within its size: a service of root's beside each instance, until the instance has ended.

It looks once a second. An instance that has more than it may is stopped, and its outcome says why. No file of it can
grow past the limit in between (LimitFSIZE in its units), but many files can, by what a second of writing makes.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from contract import names
from contract.description import InstanceDescription
from contract.exits import DISK_LIMIT
from contract.outcome import Outcome
from contract.statuses import FAILED

from . import instances, outcomes, systemd
from .errors import NodeError

DEFAULT_BYTES = 4 * 2**30  # of an instance that declares nothing; less where the disk has little room
LEAST_BYTES = 2**28
MOST_FILES = 20_000
LOOK_SECONDS = 1.0


class Use(NamedTuple):
    """What a folder takes on the disk."""

    size: int  # bytes
    files: int  # and folders


def watch(folder: Path, max_instances: int) -> None:
    """Look until the instance has ended, or has too much and is stopped. Raises NodeError, OSError, ContractError."""
    instance = instances.read_description(folder)
    most = limit(folder, instance, use(folder).size, max_instances)  # as now: it is not stopped for what others write
    most += instance.slot_bytes
    while instances.read_outcome(folder) is None:
        used = use(folder)
        if used.size > most or used.files > MOST_FILES:
            print(f"{used.files} files, {used.size / 2**30:.2f} GB: more than {instance.id} may have; it is stopped")
            _stop(folder, instance)
            return
        time.sleep(LOOK_SECONDS)


def limit(folder: Path, instance: InstanceDescription, used: int, max_instances: int) -> int:
    """Bytes that the folder may take: as declared, else its part of half of what the disk has left.

    On a disk that is nearly full it may still take LEAST_BYTES, or its part of a quarter of a disk that is small.
    """
    declared = instance.resources.disk_gb
    if declared:
        return int(declared * 2**30)
    room = os.statvfs(str(folder))
    part = (room.f_bavail * room.f_frsize + used) // (2 * max_instances)
    least = min(LEAST_BYTES, room.f_blocks * room.f_frsize // (4 * max_instances))
    return min(DEFAULT_BYTES, max(least, part))


def use(folder: Path) -> Use:
    """What a folder takes. Raises NodeError. du finds its way in any tree, however deep, and follows no link."""
    size, files = (_du(folder, option) for option in ("--block-size=1", "--inodes"))
    return Use(size, files)


def _du(folder: Path, option: str) -> int:
    done = subprocess.run(
        ["/usr/bin/du", "--summarize", "--one-file-system", option, "--", str(folder)], capture_output=True, text=True
    )
    total = done.stdout.split("\t")[0]
    if not total.isdigit():  # a file that was removed meanwhile is no failure
        raise NodeError(f"du: {done.stderr.strip()}")
    return int(total)


def _stop(folder: Path, instance: InstanceDescription) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    outcome = Outcome(FAILED, now, DISK_LIMIT)
    units = [names.unit_name(instance.run_id, instance.id, unit) for unit in names.UNITS]
    try:
        outcomes.write(folder, outcome)
    except OSError:  # the disk is full: there may be room when it writes no more
        systemd.systemctl("stop", *units)
        outcomes.write(folder, outcome)
        return
    # At once: until it has ended it writes on.
    systemd.systemctl("kill", "--signal=KILL", *units)
    systemd.systemctl("stop", *units)
