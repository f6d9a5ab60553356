"""Immutable files and folders of a node, each under a name that tells its content: releases, models, builds.

An artifact that exists is complete and never written again, unless it is a file that was damaged. What was sent is
verified aside, then renamed into place.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from contract import names
from contract.json_records import Record

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

    def is_damaged(self, index: FileIndex) -> bool:
        """Whether the file that is there is not what its sha256 says. Root's own are as they were verified."""
        return (
            bool(self.sha256)
            and not self.root_owned
            and not self.is_missing()
            and index.sha256(self.dest) != self.sha256
        )

    def has_stale_link(self) -> bool:
        """Whether its link names something else."""
        return bool(self.link) and not (os.path.islink(self.link) and os.readlink(self.link) == self.dest)


class FileIndex:
    """The sha256 of files that were hashed before and are the same still: a model has many GB.

    Nobody can set back the time at which the kernel saw a file change, so a file of the same size, inode and times has
    the same content, as long as the disk keeps it.
    """

    def __init__(self, folder: str, check: bool = False) -> None:
        self.path, self.check = Path(folder) / ".index.json", check
        try:
            known = json.loads(self.path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            known = {}
        self.known: Dict[str, Any] = known if isinstance(known, dict) else {}

    def sha256(self, path: str) -> str:
        """The file's sha256. Raises OSError."""
        entry = self.known.get(path)
        if isinstance(entry, list) and entry[:-1] == _identity(path):
            return str(entry[-1])
        digest = _sha256(path)
        self.remember(path, digest)
        return digest

    def remember(self, path: str, sha256: str) -> None:
        """Write down the sha256 of a file as it is now. Raises OSError."""
        self.known = {known: value for known, value in self.known.items() if os.path.exists(known)}
        self.known[path] = [*_identity(path), sha256]
        if not self.check:
            aside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            aside.write_text(json.dumps(self.known), encoding="ascii")
            aside.replace(self.path)


def prepare(work_dir: str, owner: str) -> None:
    """Make the folders of a work dir, as root: what is sent is the user's, what instances leave is root's."""
    user = pwd.getpwnam(owner)
    os.makedirs(work_dir, exist_ok=True)
    for folder, mode in (
        (names.incoming_folder, 0o755),
        (names.releases_folder, 0o755),
        (names.models_folder, 0o755),
        (names.packages_folder, 0o755),
        (names.checkpoints_folder, 0o755),
        (names.records_folder, 0o700),  # of runs on other nodes too: for the controller alone
    ):
        if not os.path.isdir(folder(work_dir)):
            os.mkdir(folder(work_dir), mode)
            os.chown(folder(work_dir), user.pw_uid, user.pw_gid)


def install(missing: Sequence[Artifact], work_dir: str, owner: str) -> None:
    """Verify the artifacts that were sent and rename them into place. Raises NodeError for the first that fails.

    This process is the user who sent them, or, for those that root is to own, root.
    """
    for item in missing:
        path = os.path.join(names.incoming_folder(work_dir), os.path.basename(item.dest))
        if item.root_owned:
            _take(item, path, pwd.getpwnam(owner))
        else:
            _verify(item, path)
            _rename_in(item, path)


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


def _rename_in(item: Artifact, path: str) -> None:
    """Move what arrived into its place by a rename on one file system, so that it is there whole or not at all."""
    os.makedirs(os.path.dirname(item.dest), exist_ok=True)
    aside = item.dest + ".part"
    if os.path.isdir(aside):  # left by an install that was cut off
        shutil.rmtree(aside)
    shutil.move(path, aside)
    os.sync()  # so that a power cut leaves it whole or not there
    os.rename(aside, item.dest)


def _take(item: Artifact, path: str, user: pwd.struct_passwd) -> None:
    """Copy what the user sent into a place of root's, verify the copy there, and rename it.

    Read as that user, so that no link leads to what only root may read, and copied, so that nobody has it open.
    """
    aside = item.dest + ".part"
    shutil.rmtree(aside, ignore_errors=True)
    os.makedirs(aside, mode=0o755)
    copy = os.path.join(aside, os.path.basename(item.dest))
    as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    folder, name = os.path.split(path)
    giving = [*as_user, "tar", "--create", f"--directory={folder}", "--", name]
    taking = ["tar", "--extract", "--no-same-owner", "--no-same-permissions", f"--directory={aside}"]
    with subprocess.Popen(giving, stdout=subprocess.PIPE) as given:
        taken = subprocess.run(taking, stdin=given.stdout, capture_output=True, text=True)
    if given.returncode or taken.returncode:
        raise NodeError(f"{item.name} cannot be taken from {path}: {taken.stderr.strip() or 'tar cannot read it'}")
    subprocess.run(["chmod", "--recursive", "u=rwX,go=rX", "--", copy], check=True)
    if os.path.isfile(copy):
        os.chmod(copy, 0o755)  # noqa: S103 - everybody may read it, and run it
    _verify(item, copy)
    os.rename(copy, item.dest)
    os.rmdir(aside)
    subprocess.run([*as_user, "rm", "--recursive", "--force", "--", path], check=True)


def _identity(path: str) -> List[int]:
    found = os.stat(path)
    return [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as handle:
        for block in iter(lambda: handle.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()
