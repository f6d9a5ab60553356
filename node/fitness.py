"""Why a node that answers cannot run instances, as far as the user who logs in can see: each reason with its cure."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import Iterator, List

from contract import ContractError, names
from contract.calls import LocalRules

from . import helper, rules
from .errors import NodeError
from .probe import existing, read_only_problem

ASK_SECONDS = 20


def reasons(work_dir: str) -> List[str]:
    """What stands against instances in this work dir; empty if nothing does."""
    return [*_folders(work_dir), *_place(work_dir), *_root(), *_journal()]


def _folders(work_dir: str) -> Iterator[str]:
    if problem := read_only_problem(work_dir):
        yield problem
        return
    for make in (names.incoming_folder, names.releases_folder, names.models_folder, names.packages_folder):
        folder = make(work_dir)
        if os.path.isdir(folder) and not os.access(folder, os.W_OK | os.X_OK):
            user = pwd.getpwuid(os.geteuid()).pw_name
            yield f"{folder} cannot be written by {user}: `sudo chown {user} {folder}` on the node"


def _place(work_dir: str) -> Iterator[str]:
    try:
        local = rules.read()
        if local:
            rules.check_place(local, work_dir, pwd.getpwuid(os.geteuid()).pw_name)
    except (NodeError, ContractError) as error:
        yield str(error)
        return
    home = existing(local.llama_cpp if local else LocalRules.llama_cpp)
    if os.statvfs(home).f_flag & os.ST_NOEXEC:
        yield f"{home} is on a file system that is mounted noexec, where llama-server cannot run: mount it with exec"


def _root() -> Iterator[str]:
    """Where the node has its program, the user must be able to run it as root; else it is sent first."""
    if Path(names.NODE_PROGRAM).exists() and (problem := helper.root_problem()):
        yield problem


def _journal() -> Iterator[str]:
    command = ["systemd-analyze", "cat-config", "systemd/journald.conf"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return  # a systemd that cannot tell
    chosen = [line.partition("=")[2].strip() for line in text.splitlines() if line.strip().startswith("Storage=")]
    if chosen and chosen[-1] == "none":
        yield "journald keeps nothing (Storage=none), and logs would come home empty: set Storage=persistent or auto"
