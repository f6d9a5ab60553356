"""Immutable files and folders of a node, each under a name that tells its content: releases, models, builds.

An artifact that exists is complete and never written again. What was sent is verified aside, then renamed into place.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Mapping, Sequence, Tuple

from contract.json_records import Record
from contract.names import work_dir_problem

from . import sandbox
from .errors import NodeError

VERIFY_SECONDS = 600


@dataclass(frozen=True)
class Artifact(Record):
    """One file or folder. The module's documentation says what each field means."""

    name: str
    dest: str
    link: str = ""
    sha256: str = ""
    root_owned: bool = False
    verify: Tuple[Any, ...] = ()
    expect: str = ""

    def is_missing(self) -> bool:
        """Whether it is not there yet."""
        return not os.path.exists(self.dest)

    def has_stale_link(self) -> bool:
        """Whether its link names something else."""
        return bool(self.link) and not (os.path.islink(self.link) and os.readlink(self.link) == self.dest)


def incoming(work_dir: str) -> str:
    """Where what is sent arrives, under the base name of its `dest`."""
    return os.path.join(work_dir, "incoming")


def make_incoming(work_dir: str, owner: str) -> None:
    """Make that folder, owned by the user who sends."""
    if problem := work_dir_problem(work_dir):
        raise NodeError(f"remote_work_dir {work_dir!r} {problem}")
    user = pwd.getpwnam(owner)
    _make_folder(incoming(work_dir), user.pw_uid, user.pw_gid)


def install(missing: Sequence[Artifact], work_dir: str, owner: str) -> None:
    """Verify the artifacts that were sent and rename them into place. Raises NodeError for the first that fails."""
    user = pwd.getpwnam(owner)
    for item in missing:
        path = os.path.join(incoming(work_dir), os.path.basename(item.dest))
        _verify(item, path)
        _rename_in(item, path, *((0, 0) if item.root_owned else (user.pw_uid, user.pw_gid)))


def relink(item: Artifact) -> None:
    """Point an artifact's link to it."""
    os.symlink(item.dest, item.link + ".new")
    os.replace(item.link + ".new", item.link)


def read(items: Sequence[Mapping[str, Any]]) -> List[Artifact]:
    """The artifacts that a module was given."""
    return [Artifact.from_json(item, "artifacts") for item in items]


def _verify(item: Artifact, path: str) -> None:
    """Raise NodeError unless the artifact has its digest and works on this node."""
    if item.sha256:
        actual = _sha256(path)
        if actual != item.sha256:
            os.unlink(path)
            raise NodeError(f"{item.name} arrived with sha256 {actual}, expected {item.sha256}; run again to resend it")
    printed = ""
    for words in item.verify:
        command = [str(word).replace("{path}", path) for word in words]
        # It has not proved yet that it is what it should be: not as root, and in a sandbox.
        code, output = sandbox.output(command, [path], bool(item.expect), VERIFY_SECONDS)
        if code != 0:
            raise NodeError(
                f"{item.name} does not work on this node: {' '.join(command)} exited with {code};"
                f" was it built for this processor?\n{output[-2000:]}"
            )
        printed += output
    if item.expect not in printed:
        raise NodeError(
            f"{item.name} does not see {item.expect} on this node; it would fall back to the CPU\n{printed[-2000:]}"
        )


def _rename_in(item: Artifact, path: str, uid: int, gid: int) -> None:
    """Move what arrived into its place by a rename on one file system, so that it is there whole or not at all."""
    _make_folder(os.path.dirname(item.dest), uid, gid)
    aside = item.dest + ".part"
    if os.path.isdir(aside):  # left by an install that was cut off
        shutil.rmtree(aside)
    shutil.move(path, aside)
    _give(aside, uid, gid)
    os.rename(aside, item.dest)


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as handle:
        for block in iter(lambda: handle.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


def _give(path: str, uid: int, gid: int) -> None:
    """Give a file, or a folder and all in it, to a user."""
    for folder, folders, files in os.walk(path):
        for name in folders + files:
            os.chown(os.path.join(folder, name), uid, gid, follow_symlinks=False)
    os.chown(path, uid, gid, follow_symlinks=False)


def _make_folder(path: str, uid: int, gid: int) -> None:
    """Make a folder and those above it, all owned by the user; leave what exists as it is."""
    if not os.path.isdir(path):
        _make_folder(os.path.dirname(path), uid, gid)
        os.mkdir(path, 0o755)
        os.chown(path, uid, gid)
