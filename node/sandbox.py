"""What every process of an instance may do on its node: the directives of its units, and of what reads its files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import BinaryIO, List, Optional, Sequence, Tuple

from . import systemd
from .errors import NodeError
from .quoting import word

BASE = """\
ProtectHome=tmpfs
ProtectSystem=strict
PrivateDevices={private_devices}
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
LockPersonality=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
PrivateUsers=yes
RemoveIPC=yes
PrivateIPC=yes
KeyringMode=private
UMask=0022
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources @debug @keyring userfaultfd
SystemCallFilter=~io_uring_setup io_uring_enter io_uring_register process_vm_readv process_vm_writev
SystemCallErrorNumber=EPERM"""

# Versions of systemd: older ones skip it in a unit's file, but systemd-run refuses it.
SINCE = {"ProtectProc": 247, "PrivateIPC": 248}
READ_SECONDS = 600
READ_MEMORY = "512M"
OUTPUT_BYTES = 65536  # that are kept of what a command prints


def directives(gpu: bool = False) -> List[str]:
    """The sandbox of a service. A GPU's devices have no fixed names: where one is used, all devices stay visible."""
    return BASE.format(private_devices="no" if gpu else "yes").splitlines()


def known_directives(gpu: bool = False) -> List[str]:
    """The sandbox, as far as this node's systemd knows it: systemd-run refuses what it does not know."""
    version = systemd.version()
    return [line for line in directives(gpu) if SINCE.get(line.partition("=")[0], 0) <= version]


def run(properties: Sequence[str]) -> List[str]:
    """The words before a command that is to run in a unit with these properties, connected to who runs it."""
    options = [option for line in properties for option in ("--property", line)]
    return ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec", *options, "--"]


def output(command: Sequence[str], readable: Sequence[str], gpu: bool, seconds: int) -> Tuple[int, str]:
    """Run a command in a sandbox of its own, with no network: (exit status, the end of what it printed).

    readable: what it may read beside the system's files. Raises NodeError.
    """
    access = ["DynamicUser=yes", *(f"BindReadOnlyPaths={word(path)}" for path in readable)]
    limits = [f"RuntimeMaxSec={seconds}", "TasksMax=512", "LimitFSIZE=1M"]
    properties = [*known_directives(gpu), "PrivateNetwork=yes", "PrivateTmp=yes", *access, *limits]
    said = b""
    with subprocess.Popen(
        [*run(properties), *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout  # noqa: S101 - for the type checker: it is a pipe
        descriptor = process.stdout.fileno()
        for block in iter(lambda: os.read(descriptor, 2**16), b""):
            said = (said + block)[-OUTPUT_BYTES:]
    return process.returncode, said.decode(errors="replace")


def _of_folder(user: str, folder: Path) -> List[str]:
    """What lets a user of a sandbox write this folder, and no other."""
    return [f"User={user}", f"BindPaths={word(str(folder))}", f"ReadWritePaths={word(str(folder))}"]


def unpack(archive: BinaryIO, user: str, folder: Path) -> None:
    """Unpack an archive into a folder in a sandbox, as the folder's user, who may write nothing else.

    Raises NodeError.
    """
    limits = [f"RuntimeMaxSec={READ_SECONDS}", f"MemoryMax={READ_MEMORY}", "TasksMax=16"]
    started = run([*known_directives(), "PrivateNetwork=yes", "PrivateTmp=yes", *_of_folder(user, folder), *limits])
    command = ["/usr/bin/tar", "--extract", "--no-same-owner", "--file=-", f"--directory={folder}"]
    done = subprocess.run(
        [*started, *command], stdin=archive, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    if done.returncode != 0:
        said = done.stderr[-2000:].decode(errors="replace").strip().splitlines()
        raise NodeError(f"it cannot be unpacked: {said[-1] if said else f'tar ended with {done.returncode}'}")


def read(command: Sequence[str], user: Optional[str], folder: Path, target: Path, limit: int) -> None:
    """Run a command in a sandbox of its own, and write what it prints to `target`, at most `limit` bytes.

    user: who it runs as, and may write `folder` then; None: a user made for it, which may only read. Raises NodeError.
    """
    reading = ["DynamicUser=yes", f"BindReadOnlyPaths={word(str(folder))}"]
    access = reading if user is None else _of_folder(user, folder)
    limits = [f"RuntimeMaxSec={READ_SECONDS}", f"MemoryMax={READ_MEMORY}", "TasksMax=16", f"LimitFSIZE={limit}"]
    started = [*run([*known_directives(), "PrivateNetwork=yes", "PrivateTmp=yes", *access, *limits]), *command]
    with target.open("wb") as file, subprocess.Popen(
        started, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout  # noqa: S101 - for the type checker: both are pipes
        assert process.stderr  # noqa: S101
        size = 0
        for block in iter(lambda: process.stdout.read(2**20), b""):  # type: ignore[union-attr]
            size += len(block)
            if size > limit:
                process.kill()
                raise NodeError(f"larger than {limit} bytes")
            file.write(block)
        said = process.stderr.read(2000).decode(errors="replace").strip()
    if process.returncode != 0:
        raise NodeError(said.splitlines()[-1] if said else f"reading it ended with {process.returncode}")
