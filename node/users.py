"""The users that instances run as: a pool of this node's, each lent to one instance at a time.

A user is lent until the instance's folder is taken back (`seize`), and not lent again while a process has its id.
"""

from __future__ import annotations

import fcntl
import pwd
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Set

from . import shared_folder
from .errors import NodeError

POOL = tuple(f"jarfleet{number:02d}" for number in range(1, 33))
SYSUSERS = Path("/etc/sysusers.d/jarfleet.conf")
LENT = Path("/var/lib/jarfleet/users")  # a file a user, with the folder of the instance that has it


def make_pool() -> None:
    """Make the users of the pool that are missing, by systemd-sysusers. Raises NodeError."""
    text = "".join(f'u {name} - "an instance of Jarfleet"\n' for name in POOL)
    if SYSUSERS.exists() and SYSUSERS.read_text(encoding="utf-8") == text and _exists(POOL[-1]):
        return
    SYSUSERS.parent.mkdir(parents=True, exist_ok=True)
    SYSUSERS.write_text(text, encoding="utf-8")
    done = subprocess.run(["systemd-sysusers", str(SYSUSERS)], capture_output=True, text=True)
    if done.returncode != 0:
        raise NodeError(f"systemd-sysusers could not make the users of instances: {done.stderr.strip()}")


@contextmanager
def lending(folder: Path) -> Iterator[pwd.struct_passwd]:
    """Lend a free user to the instance in this folder; not if the block raises. Raises NodeError when none is free."""
    LENT.mkdir(parents=True, exist_ok=True)
    with (LENT / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make_pool()
        busy = _ids_with_processes()
        for name in POOL:
            user = pwd.getpwnam(name)
            if user.pw_uid not in busy and not _is_lent(user):
                break
        else:
            raise NodeError(f"all {len(POOL)} users for instances are in use; stop or collect runs that have ended")
        shared_folder.write(LENT / name, str(folder))
        try:
            yield user
        except BaseException:
            (LENT / name).unlink()
            raise


def user_of(folder: Path) -> Optional[str]:
    """The user that the instance in this folder has; None when it has none (any more)."""
    try:
        group = folder.lstat().st_gid
    except OSError:
        return None
    return next((name for name in POOL if _exists(name) and pwd.getpwnam(name).pw_gid == group), None)


def seize(folder: Path) -> None:
    """Make everything in the folder of an instance that has ended root's, so that its user can be lent again.

    None of its processes is left, so nothing changes meanwhile. By coreutils, which find their way in any tree, however
    deep, and follow no link in it. Raises NodeError.
    """
    for command in (["chown", "--no-dereference", "0:0"], ["chmod", "a-st,u=rwX,go=rX"]):
        done = subprocess.run([*command, "--recursive", "--", str(folder)], capture_output=True, text=True)
        if done.returncode != 0:
            raise NodeError(f"{folder} could not be taken back from its instance: {done.stderr.strip()[-200:]}")


def _exists(name: str) -> bool:
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


def _is_lent(user: pwd.struct_passwd) -> bool:
    try:
        folder = Path((LENT / user.pw_name).read_text(encoding="utf-8"))
        return folder.lstat().st_gid == user.pw_gid
    except OSError:
        return False


def _ids_with_processes() -> Set[int]:
    found: Set[int] = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            words = next(line for line in status.read_text(errors="replace").splitlines() if line.startswith("Uid:"))
        except (OSError, StopIteration):
            continue
        found.update(int(word) for word in words.split()[1:])
    return found
