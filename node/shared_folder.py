"""Files of the node's own in an instance's folder, where the instance makes files too.

The folder is root's, with the sticky bit and writable by the instance's group: there the instance makes, changes and
removes its own files, and none of root's. It may make one under a name that root uses, a link or a pipe among them. So
what is read counts only if it belongs to root or the folder's owner (who was the SSH user once), and what is written
replaces whatever else bears its name.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Optional

MODE = 0o1775


def owner(path: Path) -> Optional[int]:
    """The owner's user id - of a folder: whose files count in it; None where there is nothing."""
    try:
        return path.lstat().st_uid
    except OSError:
        return None


def make(folder: Path, group: int) -> None:
    """Make the folder, unless it is there, and open it to the instance's group."""
    folder.mkdir(exist_ok=True)
    os.chown(str(folder), -1, group)
    folder.chmod(MODE)


def write(path: Path, text: str, replace: bool = True, mode: int = 0o644) -> None:
    """Write a file whole or not at all, on the disk, by default readable by everybody. Raises OSError.

    replace: otherwise one that counts already stays.
    """
    aside = _aside(path)
    descriptor = os.open(str(aside), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except OSError:  # the disk is full
        aside.unlink()
        raise
    try:
        if replace:
            os.replace(str(aside), str(path))
        else:
            os.link(str(aside), str(path))
            aside.unlink()
    except OSError:
        if not replace and owner(path) in (0, owner(path.parent)):
            aside.unlink()
            return
        # The instance's: a folder, or one that it made before.
        os.rename(str(path), str(_aside(path)))
        os.replace(str(aside), str(path))


def append_line(path: Path, line: str) -> None:
    """Append one line, whole and on the disk, and not to a line that a power cut has torn. Raises OSError."""
    descriptor = _open_own(path)
    if descriptor is None:
        write(path, "")
        descriptor = _open_own(path)
        if descriptor is None:
            raise OSError(f"{path}: replaced while it was written")
    try:
        size = os.fstat(descriptor).st_size
        torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, f"{chr(10) if torn else ''}{line}\n".encode())  # one write: another may write meanwhile
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_own(path: Path) -> Optional[int]:
    """The file to append to, if it is a regular one that counts."""
    try:
        descriptor = os.open(str(path), os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_uid in (0, owner(path.parent)):
        return descriptor
    os.close(descriptor)
    return None


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")
