"""How the control loop acts: by the playbooks that a person would use, each with a log of its own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from fleet.base.terminal import plain
from fleet.control.loop_file import LoopFile

LOGS, LOCKS = "logs", "locks"
KEPT_LOGS = 200
REASON = re.compile(r"^ {4}\s*(\S.*)$")  # how the callback prints why a task failed
MOST_LINES = 8  # of a reason
PRINTED = re.compile(r"\d{4}-\d\d-\d\dT")  # of an instance, by its journal
ACT_SECONDS = 3600


def this_playbook() -> str:
    """Return what names the playbook that this process works for: Ansible forks one for each task.

    The number of its process, and when that began, since numbers are used again.
    """
    pid = os.getppid()
    return f"{pid} {_began(pid)}"


def is_running(playbook: str) -> bool:
    """Whether a playbook, as `this_playbook` named it, is still there."""
    pid, _, began = playbook.partition(" ")
    return bool(began) and _began(int(pid)) == began


def _began(pid: int) -> str:
    """Return when a process began, and in which boot; empty if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else f"{boot} {fields[18]}"  # proc(5): the 22nd


class Playbooks:
    """Runs playbooks of this project on the loop's inventory."""

    def __init__(self, file: LoopFile, folder: Path) -> None:
        self._file, self._logs, self._locks, self._number = file, folder / LOGS, folder / LOCKS, 0
        for made in (self._logs, self._locks):
            made.mkdir(parents=True, exist_ok=True)

    def is_busy(self, run_id: str) -> bool:
        """Whether a playbook works on a run: also one that outlived the loop that had begun it."""
        try:
            with self._lock(run_id):
                return False
        except BlockingIOError:
            return True

    async def play(self, verb: str, run_id: str, runs_dir: str, **variables: str) -> str:
        """Run playbooks/<verb>.yml about a run to its end. Return why it failed; empty if it did not."""
        with self._lock(run_id) as lock:
            return await self._play(lock, verb, runs_dir, run=run_id, **variables)

    @contextlib.contextmanager
    def _lock(self, run_id: str) -> Iterator[int]:
        """Hold the lock of a run, which a playbook holds as long as it lives. Raise BlockingIOError if one has it."""
        descriptor = os.open(self._locks / run_id, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield descriptor
        finally:
            os.close(descriptor)

    async def _play(self, lock: int, verb: str, runs_dir: str, **variables: str) -> str:
        self._number += 1
        log = self._logs / f"{os.getpid()}-{self._number:05}-{verb}.log"
        words = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
        command = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            f"playbooks/{verb}.yml",
            *self._file.inventory,
        ]
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command, *words, cwd=self._file.project, env=_environment(runs_dir),
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=asyncio.subprocess.STDOUT,
                start_new_session=True, pass_fds=(lock,),
            )  # fmt: skip
        try:
            code = await asyncio.wait_for(process.wait(), ACT_SECONDS)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            raise
        self._forget_old()
        return "" if code == 0 else f"{verb}.yml exited with {code}: {_reason(log)} (all of it: {log})"

    def _forget_old(self) -> None:
        logs = sorted(self._logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
        for path in logs[:-KEPT_LOGS]:
            path.unlink()


def _environment(runs_dir: str) -> Mapping[str, str]:
    return {**os.environ, "JARFLEET_RUNS": runs_dir, "ANSIBLE_NOCOLOR": "1"}


def _reason(log: Path) -> str:
    """Return why the playbook failed, for a person."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [match[1] for line in lines if (match := REASON.match(line))]
    found = list(itertools.takewhile(lambda line: not PRINTED.match(line), found))
    return plain("; ".join((found or [line for line in lines if line.strip()] or ["it printed nothing"])[:MOST_LINES]))
