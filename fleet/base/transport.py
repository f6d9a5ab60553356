"""Send and fetch files by rsync over the connection that Ansible has already configured.

Address, user, key, host-key checking and the open master connection are Ansible's: nothing is configured twice.
"""

from __future__ import annotations

import io
import os
import re
import resource
import shlex
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from fleet.base.errors import FleetError

PROGRESS_SECONDS = 3
TRANSFER_SECONDS = 6 * 3600
UNCLEAN_SHELL = (
    "the node's login shell prints something, which rsync takes for data:"
    " let ~/.bashrc and the like there print only where `[[ $- == *i* ]]`"
)
PROGRESS = re.compile(r"\s(\d+)%\s+(\S+/s)")


class TransferError(FleetError):
    """rsync failed; the message holds its output."""


class Connection(Protocol):
    """The part of an Ansible connection plugin (`ssh` or `local`) that is needed here."""

    transport: str

    def get_option(self, option: str) -> Any: ...

    def _build_command(self, binary: str, subsystem: str, *other_args: str) -> list[bytes]: ...


def ssh_command(connection: Connection, *options: str) -> list[str]:
    """Return the ssh command line that Ansible would use for this host, plus `options`, without the host's name."""
    # Ansible has no public API for this; its synchronize action rebuilds the line by hand, without progress.
    return [word.decode() for word in connection._build_command("ssh", "ssh", *options)]


def send(
    connection: Connection,
    source: str,
    target: str,
    *,
    options: Sequence[str] = (),
    progress: Callable[[str], None] = lambda line: None,
) -> bool:
    """Copy `source` to `target` on the node. Return whether anything there differed.

    `progress` is called with a line such as ``45% 12.3MB/s`` every few seconds. Raise TransferError if rsync fails.
    """
    copied = ("--recursive", "--links", "--perms", "--times", "--partial", "--itemize-changes")
    return _rsync(connection, [*copied, *options], source, _remote(connection, target), progress)


def fetch_tree(connection: Connection, source: str, target: Path) -> None:
    """Bring a folder of the node's into `target`, links out of it left out. Raise TransferError if rsync fails."""
    copied = ("--recursive", "--links", "--safe-links", "--perms", "--times", "--partial")
    _rsync(connection, copied, _remote(connection, f"{source}/"), f"{target}/")


def fetch(
    connection: Connection,
    folder: str,
    limits: Mapping[str, int],
    target: Path,
    progress: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Bring these files {path below `folder` on the node: bytes at most} below `target`; return those that differed.

    The node may lie: what it sends lands in an empty folder first, and of that only regular files of these paths and
    within their limits are taken, and replace those that are there once they are on the disk. `progress`: as of send().
    Raise TransferError if rsync fails, a file is too large, or it cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix=".incoming.", dir=target) as scratch:
        # The copies are new each time, so changes are detected by content, not by date.
        options = ["--files-from=-", "--ignore-missing-args", "--checksum", f"--compare-dest={target.absolute()}"]
        largest = max(limits.values())
        _rsync(
            connection, [*options, f"--max-size={largest}"], _remote(connection, f"{folder}/"), f"{scratch}/",
            progress, names=limits, largest=largest,
        )  # fmt: skip
        taken = [name for name, limit in limits.items() if _is_file(Path(scratch), name, limit)]
        try:
            for name in taken:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                with (Path(scratch) / name).open("rb") as file:
                    os.fsync(file.fileno())
                (Path(scratch) / name).replace(target / name)
        except OSError as error:
            raise TransferError(f"{target}: {error.strerror}") from error
    return taken


def _is_file(folder: Path, name: str, limit: int) -> bool:
    """Whether a file was brought: a regular one, in real folders. Raise TransferError if it is too large."""
    path = folder / name
    above = (folder / parent for parent in Path(name).parents)
    if path.is_symlink() or any(parent.is_symlink() for parent in above) or not path.is_file():
        return False
    if path.stat().st_size > limit:
        raise TransferError(f"{name}: larger than {limit} bytes; it was left on the node")
    return True


def _remote(connection: Connection, path: str) -> str:
    """Return a path on the node as rsync names it."""
    if connection.transport == "local":
        return path
    host = connection.get_option("host")
    return f"[{host}]:{path}" if ":" in host else f"{host}:{path}"


def _rsync(
    connection: Connection,
    options: Sequence[str],
    source: str,
    target: str,
    progress: Callable[[str], None] = lambda line: None,
    names: Iterable[str] = (),
    largest: int = resource.RLIM_INFINITY,
) -> bool:
    """Run rsync. names: what to copy, for --files-from=-. largest: a file that it writes may have so many bytes.

    Return whether it said anything, which is of use with --itemize-changes.
    """
    command = ["rsync", "--protect-args", "--timeout=60", "--info=progress2", *options]
    if connection.transport != "local":
        command += ["--rsh", shlex.join(ssh_command(connection))]
    said: deque[str] = deque(maxlen=5)
    shown = time.monotonic()
    with subprocess.Popen(  # noqa: S603 - no shell; the command is ours, the inventory is the user's own
        [*command, "--", source, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=partial(_limit_files, largest),
    ) as process, _killed_after(process, TRANSFER_SECONDS):  # fmt: skip
        assert process.stdin is not None  # noqa: S101 - for the type checker: it is a pipe
        assert process.stdout is not None  # noqa: S101
        with suppress(BrokenPipeError):
            process.stdin.write("".join(f"{name}\n" for name in names).encode())
            process.stdin.close()
        for line in io.TextIOWrapper(process.stdout, errors="replace"):  # rsync's \r counts as a newline here
            if match := PROGRESS.search(line):
                if time.monotonic() - shown >= PROGRESS_SECONDS:
                    shown = time.monotonic()
                    progress(f"{match[1]}% {match[2]}")
            elif line.strip():
                said.append(line.strip())
    if process.returncode != 0:
        why = UNCLEAN_SHELL if any("is your shell clean" in line for line in said) else "; ".join(said)
        raise TransferError(f"rsync {source} -> {target} exited with {process.returncode}: {why}")
    return bool(said)


def _limit_files(largest: int) -> None:
    """In rsync's own process, before it begins: the sender's word for a file's size is not taken."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))


@contextmanager
def _killed_after(process: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
    """Kill the process if it takes longer: a node may send a byte a minute."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
