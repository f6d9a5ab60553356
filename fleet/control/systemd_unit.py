"""The loop as a systemd unit of the controller: it comes back when it dies, and with the machine.

Root has a unit of the system, anybody else one of their own systemd, which lingers: it runs without a login. The unit
has none of the login's agents, so whether it can log in to the nodes is seen from there.
"""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.base.errors import ControlError
from fleet.base.files import write_text

BOOTED = Path("/run/systemd/system")  # sd_booted(3)
ENVIRONMENT = "environment"  # beside the loop's other files
KEPT = re.compile(r"(JARFLEET|ANSIBLE|XDG|LC|LANG)(_[A-Z0-9_]+)?|HOME|PATH", re.ASCII)  # of who starts it
NOT_KEPT = ("XDG_RUNTIME_DIR", "XDG_SESSION_ID")  # of this login
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class SystemdUnit:
    """The unit of the loop of one folder. own: of the user's systemd, not of the system's."""

    folder: Path
    own: bool

    @classmethod
    def of(cls, folder: Path) -> SystemdUnit:
        """Return the one that this user has, or could have."""
        return cls(folder, os.geteuid() != 0)

    def problem(self) -> str:
        """Return why no systemd here would have it; empty if one would. A user's own is made to linger."""
        if not BOOTED.is_dir():
            return "this machine has no systemd"
        if self.own and not _lingers(getpass.getuser()):
            return f"`sudo loginctl enable-linger {getpass.getuser()}`, once, lets a unit of yours run without a login"
        code, said = self._said("show-environment")
        return f"systemctl show-environment exited with {code}: {said}" if code else ""

    @property
    def name(self) -> str:
        """The unit's name."""
        return f"jarfleet-control-{self.folder.name}.service"

    @property
    def path(self) -> Path:
        """The unit's file."""
        own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"
        return (own if self.own else Path("/etc/systemd/system")) / self.name

    def start(self, project: str) -> None:
        """Write the unit, and have it started now and with the machine. Raise ControlError."""
        write_text(self.folder / ENVIRONMENT, environment(os.environ), mode=0o600)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, text(self.folder, project, own=self.own))
        for words in (["daemon-reload"], ["enable", "--quiet", self.name], ["restart", self.name]):
            self._do(*words)

    def has_given_up(self) -> bool:
        """Whether systemd does not start it any more."""
        return self._said("is-failed", "--quiet", self.name)[0] == 0

    def stop(self) -> None:
        """Stop it, and remove the unit. Raise ControlError."""
        self._do("disable", "--quiet", "--now", self.name)
        self.path.unlink(missing_ok=True)
        self._do("daemon-reload")

    def _do(self, *words: str) -> None:
        code, said = self._said(*words)
        if code:
            raise ControlError(f"systemctl {' '.join(words)} exited with {code}: {said}")

    def _said(self, *words: str) -> tuple[int, str]:
        scope = ["--user"] if self.own else []
        where = {"XDG_RUNTIME_DIR": f"/run/user/{os.geteuid()}"} if self.own else {}
        command = ["systemctl", *scope, *words]
        done = subprocess.run(command, env={**where, **os.environ}, capture_output=True, text=True)  # noqa: S603
        return done.returncode, done.stderr.strip()


def _lingers(user: str) -> bool:
    """Whether the user's own systemd runs without a login, from now on. Most users may ask for that, if not all."""
    shown = ["loginctl", "show-user", "--property=Linger", "--value", user]
    if subprocess.run(shown, capture_output=True, text=True).stdout.strip() == "yes":  # noqa: S603
        return True
    enable = ["loginctl", "enable-linger", user]
    return subprocess.run(enable, capture_output=True).returncode == 0  # noqa: S603


def text(folder: Path, project: str, *, own: bool) -> str:
    """Return the unit's text. Raise ControlError for a path that no unit can name."""
    return f"""\
[Unit]
Description=Jarfleet's control loop in {_line(folder)}
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={_words(sys.executable, "-m", "fleet.control", str(folder))}
WorkingDirectory={_line(project)}
EnvironmentFile={_line(folder / ENVIRONMENT)}
StandardOutput=append:{_line(folder / "loop.log")}
StandardError=append:{_line(folder / "loop.log")}
Restart=on-failure
RestartSec=2
# What it says then no new start would mend: another loop runs, or its settings cannot be read.
RestartPreventExitStatus=2
# A playbook that it has begun goes on when it dies: the next one waits for it.
KillMode=process

[Install]
WantedBy={"default.target" if own else "multi-user.target"}
"""


def environment(variables: Mapping[str, str]) -> str:
    """Return the variables that the loop and its playbooks need, as systemd.exec(5) reads them from a file."""
    kept = {name: value for name, value in variables.items() if KEPT.fullmatch(name) and name not in NOT_KEPT}
    return "".join(f"{name}={_quoted(_checked(value))}\n" for name, value in sorted(kept.items()))


def _words(*words: str) -> str:
    return " ".join(_quoted(_checked(word)).replace("%", "%%").replace("$", "$$") for word in words)


def _line(path: Path | str) -> str:
    return _checked(str(path)).replace("%", "%%")


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _checked(value: str) -> str:
    if CONTROL.search(value):
        raise ControlError(f"{value!r}: has a control character, which no unit can name")
    return value
