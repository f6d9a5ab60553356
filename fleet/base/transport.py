"""Send and fetch files by rsync over the connection that Ansible has already configured.

Address, user, key, host-key checking and the open master connection are Ansible's: nothing is configured twice.
"""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from fleet.base.errors import FleetError

PROGRESS_SECONDS = 3
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


def rsync(
    connection: Connection,
    source: str,
    target: str,
    *,
    fetch: bool = False,
    options: Sequence[str] = (),
    progress: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Copy `source` to `target`: to the node or, with `fetch`, from it.

    Return the names that were changed. `progress` is called with a line such as ``45% 12.3MB/s`` every few seconds.
    Raise TransferError if rsync fails.
    """
    command = ["rsync", "--recursive", "--links", "--perms", "--times", "--protect-args", "--partial", "--timeout=60",
               "--info=progress2", "--out-format=changed %n", *options]  # fmt: skip
    if connection.transport != "local":
        host = connection.get_option("host")
        host = f"[{host}]" if ":" in host else host
        source, target = (f"{host}:{source}", target) if fetch else (source, f"{host}:{target}")
        command += ["--rsh", shlex.join(ssh_command(connection))]
    changed, said, shown = [], [], time.monotonic()
    with subprocess.Popen(  # noqa: S603 - no shell; the command is ours, the inventory is the user's own
        [*command, "--", source, target], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        for line in io.TextIOWrapper(process.stdout, errors="replace"):  # rsync's \r counts as a newline here
            if line.startswith("changed "):
                changed.append(line.removeprefix("changed ").rstrip())
            elif match := PROGRESS.search(line):
                if time.monotonic() - shown >= PROGRESS_SECONDS:
                    shown = time.monotonic()
                    progress(f"{match[1]}% {match[2]}")
            elif line.strip():
                said.append(line.strip())
    if process.returncode != 0:
        raise TransferError(f"rsync {source} -> {target} exited with {process.returncode}: {'; '.join(said[-5:])}")
    return changed
