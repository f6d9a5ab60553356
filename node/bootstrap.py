"""Makes a machine what the project needs, and undoes it: root's part of bootstrap.yml. Every step is looked at first.

Nothing here takes a way in from anybody, unless `harden_sshd` asks for that: who could log in before still can.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

from contract import names
from contract.calls import RULES
from contract.preparation import MADE, MADE_LIMIT, Made, Preparation

from . import artifacts, shared_folder, users
from .changes import Change
from .errors import NodeError

SUDOERS = Path("/etc/sudoers.d/jarfleet-program")
SSHD = Path("/etc/ssh/sshd_config.d/10-jarfleet.conf")
CMDLINES = (Path("/boot/firmware/cmdline.txt"), Path("/boot/cmdline.txt"))  # of a Raspberry Pi
SESSIONS_SECONDS = 10
MEMORY = "cgroup_enable=memory"
KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/=]{60,80}( [^\n\r]*)?")


class Prepared(NamedTuple):
    """What was changed (in a check: would be), and what a person still has to do."""

    changes: List[Change]
    todo: List[str]


def prepare(wanted: Preparation, check: bool) -> Prepared:
    """Make the machine a node. Raises NodeError before anything is changed that would lock somebody out."""
    owner = wanted.rules.owner
    if not names.USER.fullmatch(owner) or not KEY.fullmatch(wanted.public_key):
        raise NodeError(f"{owner!r} with {wanted.public_key[:20]!r}...: not the name of a user, or not an ed25519 key")
    changes: List[Change] = []
    _packages(wanted.packages, changes, check)
    _account(owner, changes, check)
    _key(owner, wanted.public_key, changes, check)
    _file(Path(RULES), _json(wanted.rules.to_json()), 0o644, changes, check)
    right = f'{owner} ALL=(root) NOPASSWD: sha256:{wanted.program} {names.NODE_PROGRAM} ""\n'
    _file(SUDOERS, right, 0o440, changes, check, ["visudo", "--check", "--quiet", "--file"])
    _link(names.node_program(wanted.program), changes, check)
    _work_dir(wanted.rules.work_dir, owner, changes, check)
    if wanted.harden_sshd:
        _harden([owner, *wanted.also_allowed], changes, check)
    return Prepared(changes, [*_memory_controller(changes, check), *_clock(changes, check)])


def undo(work_dir: str, remove_data: bool, check: bool) -> Prepared:
    """Take back what prepare() has made. Data and programs of instances stay, unless `remove_data`."""
    made, changes = _made(), []  # type: Made, List[Change]
    if made.key and made.key != "":
        _forget_key(made, changes, check)
    for path in (SSHD, SUDOERS, Path(RULES)):
        _remove(path, changes, check)
    if any(change.path == str(SSHD) for change in changes) and not check:
        _reload_sshd()
    if remove_data:
        _remove_data(work_dir, changes, check)
    if made.user and _exists(made.user):
        changes.append(Change(f"user {made.user}", made.user, ""))
        if not check:
            _end_account(made.user)
    _remove(Path(MADE), changes, check)
    return Prepared(changes, [])


def _packages(wanted: Sequence[str], changes: List[Change], check: bool) -> None:
    asked = ["dpkg-query", "--show", "--showformat=${Status}", "--"]
    missing = [name for name in wanted if "ok installed" not in _output([*asked, name])]
    if missing:
        changes.append(Change("packages", "", "".join(f"{name}\n" for name in missing)))
        if not check:
            _run(["apt-get", "update", "--quiet"])
            quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            _run(["apt-get", "install", "--yes", "--quiet", "--", *missing], quiet)


def _account(owner: str, changes: List[Change], check: bool) -> None:
    if _exists(owner):
        return
    changes.append(Change(f"user {owner}", "", owner))
    if not check:
        _run(["useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", owner])
        _note(Made(user=owner, key=_made().key))


def _key(owner: str, key: str, changes: List[Change], check: bool) -> None:
    """Let the key in. What is in the owner's home is done as the owner: it may hold links."""
    home = pwd.getpwnam(owner).pw_dir if _exists(owner) else f"/home/{owner}"
    known = _as_owner(owner, f"cat {_quoted(home)}/.ssh/authorized_keys") if _exists(owner) else ""
    blob = key.split()[1]
    if blob in known:
        return
    changes.append(Change(f"{home}/.ssh/authorized_keys", "", f"{key}\n"))
    if not check:
        folder = f"{_quoted(home)}/.ssh"
        _as_owner(owner, f"umask 077 && mkdir -p {folder} && cat >> {folder}/authorized_keys", f"{key}\n")
        if blob not in _as_owner(owner, f"cat {folder}/authorized_keys"):
            raise NodeError(f"{home}/.ssh/authorized_keys cannot be written by {owner}")
        _note(Made(user=_made().user, key=f"{owner} {blob}"))


def _forget_key(made: Made, changes: List[Change], check: bool) -> None:
    owner, blob = made.key.split()
    if not _exists(owner) or owner == made.user:
        return
    file = f"{_quoted(pwd.getpwnam(owner).pw_dir)}/.ssh/authorized_keys"
    known = _as_owner(owner, f"cat {file}").splitlines(keepends=True)
    kept = "".join(line for line in known if blob not in line)
    if len(kept) != len("".join(known)):
        changes.append(Change(file.strip("'"), "".join(known), kept))
        if not check:
            _as_owner(owner, f"cat > {file}", kept)


def _file(
    path: Path, text: str, mode: int, changes: List[Change], check: bool, test: Optional[List[str]] = None
) -> bool:
    """Make a file of root's what it should be, if it passes its test; whether it changed."""
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    if before == text and path.stat().st_mode & 0o777 == mode:
        return False
    changes.append(Change(str(path), before, text))
    if check:
        return True
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if test:
        aside = path.with_name(f"{path.name}.new~")  # sudo reads no file whose name ends so
        shared_folder.write(aside, text, mode=mode)
        try:
            _run([*test, str(aside)])
        finally:
            aside.unlink()
    shared_folder.write(path, text, mode=mode)
    return True


def _link(program: str, changes: List[Change], check: bool) -> None:
    before = os.readlink(names.NODE_PROGRAM) if os.path.islink(names.NODE_PROGRAM) else ""
    if before != program:
        changes.append(Change(names.NODE_PROGRAM, before, program))
        if not check:
            artifacts.relink(artifacts.Artifact("the node's program", program, names.NODE_PROGRAM))


def _work_dir(work_dir: str, owner: str, changes: List[Change], check: bool) -> None:
    if problem := names.work_dir_problem(work_dir):
        raise NodeError(f"remote_work_dir {work_dir!r} {problem}")
    if not os.path.isdir(names.incoming_folder(work_dir)):
        changes.append(Change(work_dir, "", "releases/ models/ incoming/ instances/\n"))
        if not check:
            artifacts.prepare(work_dir, owner)
    if not check:
        users.make_pool()


def _harden(allowed: List[str], changes: List[Change], check: bool) -> None:
    text = (
        "# Jarfleet: keys only, not as root, and these users only.\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin no\n"
        f"AllowUsers {' '.join(dict.fromkeys(allowed))}\n"
    )
    before = SSHD.read_text(encoding="utf-8") if SSHD.is_file() else ""
    if not _file(SSHD, text, 0o644, changes, check) or check:
        return
    try:
        _run(["sshd", "-t"])
        _run(["sshd", "-T"])
    except NodeError:
        if before:
            shared_folder.write(SSHD, before)
        else:
            SSHD.unlink()
        raise
    _reload_sshd()


def _memory_controller(changes: List[Change], check: bool) -> List[str]:
    """A Raspberry Pi boots without it, and then no limit of memory holds."""
    for path in CMDLINES:
        if path.is_file():
            line = path.read_text(encoding="utf-8").rstrip("\n")
            if MEMORY in line.split():
                return []
            kept = " ".join(word for word in line.split() if word != "cgroup_disable=memory")
            _file(path, f"{kept} {MEMORY}\n", path.stat().st_mode & 0o777, changes, check)
            return [f"reboot it: {path} has {MEMORY} now, without which no limit of memory holds"]
    return []


def _clock(changes: List[Change], check: bool) -> List[str]:
    """Keep the clock: records of many nodes are put in order by their times."""
    shown = _output(["timedatectl", "show", "--property=CanNTP", "--property=NTP", "--property=NTPSynchronized"])
    if "NTP=yes" in shown.split() or "NTPSynchronized=yes" in shown.split():
        return []
    if "CanNTP=yes" not in shown.split():
        return ["keep its clock: it has no service for that; `apt-get install systemd-timesyncd` or chrony"]
    changes.append(Change("timedatectl NTP", "no", "yes"))
    if not check:
        _run(["timedatectl", "set-ntp", "true"])
    return []


def _remove(path: Path, changes: List[Change], check: bool) -> None:
    if path.is_file():
        changes.append(Change(str(path), path.read_text(encoding="utf-8"), ""))
        if not check:
            path.unlink()


def _remove_data(work_dir: str, changes: List[Change], check: bool) -> None:
    alive = list(names.UNIT_FOLDER.glob("jarfleet-*"))
    if alive:
        raise NodeError(f"instances live here, such as {alive[0].name}; stop and fetch their runs first")
    for folder in (work_dir, "/opt/jarfleet", "/opt/llama.cpp", "/var/lib/jarfleet"):
        if os.path.isdir(folder):
            changes.append(Change(folder, "there\n", ""))
            if not check:
                shutil.rmtree(folder)


def _end_account(user: str) -> None:
    """Remove the account that was made here; connections that are still open as that user end."""
    deadline = time.monotonic() + SESSIONS_SECONDS
    while True:
        subprocess.run(["pkill", "--signal", "KILL", "--uid", user])
        try:
            return _run(["userdel", "--remove", user])
        except NodeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _made() -> Made:
    try:
        return Made.from_file(Path(MADE), MADE_LIMIT, 0)
    except FileNotFoundError:
        return Made()


def _note(made: Made) -> None:
    Path(MADE).parent.mkdir(mode=0o755, exist_ok=True)
    shared_folder.write(Path(MADE), _json(made.to_json()))


def _json(value: Dict[str, object]) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _exists(user: str) -> bool:
    try:
        return bool(pwd.getpwnam(user))
    except KeyError:
        return False


def _quoted(path: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_@./-]+", path):
        raise NodeError(f"{path!r}: a home of a name that is not expected")
    return path


def _as_owner(owner: str, script: str, given: str = "") -> str:
    """What a script of ours prints, run as the owner."""
    user = pwd.getpwnam(owner)
    become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--", "sh", "-c", script]
    return subprocess.run(become, input=given, capture_output=True, text=True).stdout


def _output(command: List[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:
        return ""


def _run(command: List[str], environment: Optional[Dict[str, str]] = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise NodeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")


def _reload_sshd() -> None:
    unit = "ssh" if "ssh.service" in _output(["systemctl", "list-unit-files", "ssh.service"]) else "sshd"
    _run(["systemctl", "reload", unit])
