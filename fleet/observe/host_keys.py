"""Host keys of nodes that nobody has logged in to yet: found, compared with what was given, and written down.

A password must not be sent to a machine before it is known to be the right one, so this comes before any login.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.base.errors import FleetError

SCAN_SECONDS = 5
KEY = re.compile(r"\S+ (ssh-ed25519 [A-Za-z0-9+/=]{60,80})")
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


class HostKeyError(FleetError):
    """A node shows no key, or another one than was given."""


@dataclass(frozen=True)
class HostKey:
    """The ed25519 key that a machine shows."""

    node: str
    address: str  # as ssh names it in a known_hosts file
    key: str  # "ssh-ed25519 AAAA..."
    known_hosts: Path

    @property
    def fingerprint(self) -> str:
        """The key's fingerprint, as ssh-keygen -l shows it on the machine itself."""
        digest = hashlib.sha256(base64.b64decode(self.key.split()[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    def check(self, given: str) -> None:
        """Raise HostKeyError unless this is the fingerprint."""
        if not FINGERPRINT.fullmatch(given):
            raise HostKeyError(f"nodes.{self.node}.host_key_fingerprint: {given!r} is not of the form SHA256:...")
        if given != self.fingerprint:
            raise HostKeyError(
                f"nodes.{self.node}.host_key_fingerprint: {given} given, but {self.address} shows {self.fingerprint};"
                " is it the machine that you mean?"
            )

    def write_down(self) -> None:
        """Add it to the known hosts."""
        self.known_hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.known_hosts.open("a", encoding="ascii") as file:
            file.write(f"{self.address} {self.key}\n")


def unknown(node: str, variables: Mapping[str, Any]) -> HostKey | None:
    """Return the key that a node shows, None if its host key is known. Raise HostKeyError if it shows none."""
    host = str(variables.get("ansible_host") or node)
    port = str(variables.get("ansible_port") or "")
    options = [word for key in ("ansible_ssh_common_args", "ansible_ssh_extra_args") for word in _words(variables, key)]
    resolved = _resolved([*options, *(["-p", port] if port else []), "--", host])
    name, port = resolved["hostname"], resolved["port"]
    address = name if port == "22" else f"[{name}]:{port}"
    known_hosts = Path(resolved["userknownhostsfile"].split()[0]).expanduser()
    if _run(["ssh-keygen", "-F", address, "-f", str(known_hosts)]).returncode == 0:
        return None
    scanned = _run(["ssh-keyscan", "-t", "ed25519", "-T", str(SCAN_SECONDS), "-p", port, "--", name]).stdout
    found = KEY.search(scanned)
    if not found:
        raise HostKeyError(f"{node}: {address} shows no ed25519 host key; is it on, and is sshd running?")
    return HostKey(node, address, found[1], known_hosts)


def _words(variables: Mapping[str, Any], key: str) -> list[str]:
    return shlex.split(str(variables.get(key) or ""))


def _resolved(words: list[str]) -> dict[str, str]:
    """Return what ssh makes of these options and its configuration, by keyword."""
    lines = _run(["ssh", "-G", *words]).stdout.splitlines()
    found = dict(line.split(" ", 1) for line in lines if " " in line)
    if not {"hostname", "port", "userknownhostsfile"} <= found.keys():
        raise HostKeyError(f"ssh -G {shlex.join(words)}: says nothing of use")
    return found


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
