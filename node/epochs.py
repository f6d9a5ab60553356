"""The epochs of an instance on this node: it is resumed in a new folder, and the one before is put aside as it was.

A lower epoch than the one that is here is refused: its controller does not know of the later one.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Iterable, Iterator

from contract import ContractError, names
from contract.description import InstanceDescription
from contract.launch_spec import Checkpoint

from . import exit_log, instances, sandbox, slots
from .errors import NodeError

SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def earlier(folder: Path, wanted: InstanceDescription) -> int:
    """The epoch in this folder, if it is before the one that is wanted; 0 if it is the same, or nothing is there.

    Raises NodeError when it is a later one.
    """
    try:
        here = instances.read_description(folder).epoch
    except (FileNotFoundError, ContractError):
        return 0
    if here > wanted.epoch:
        raise NodeError(f"{wanted.id} is here in epoch {here} already: epoch {wanted.epoch} is not started any more")
    return here if here < wanted.epoch else 0


def put_aside(folder: Path, epoch: int, copies: Iterable[str]) -> None:
    """Keep the folder of an epoch that has ended beside the one to come, without its copies. Raises OSError."""
    kept = Path(names.earlier_folder(str(folder), epoch))
    os.rename(str(folder), str(kept))
    for copy in copies:
        shutil.rmtree(copy, ignore_errors=True)


def restore(folder: Path, checkpoint: Checkpoint, work_dir: str, user: pwd.struct_passwd) -> None:
    """Fill the new folder of an instance with what it is resumed from. Raises OSError, NodeError."""
    for one in checkpoint.exits:
        exit_log.append(folder, one)
    if checkpoint.slot:
        with _sent(work_dir, folder, checkpoint.slot) as slot:
            slots.put(folder, slot, user)
    if checkpoint.state:
        with _sent(work_dir, folder, checkpoint.state) as archive:
            sandbox.unpack(archive, user.pw_name, folder)
    if checkpoint.database:
        with _sent(work_dir, folder, checkpoint.database) as file, (folder / names.DATABASE).open("xb") as copy:
            shutil.copyfileobj(file, copy)
            os.fchown(copy.fileno(), user.pw_uid, user.pw_gid)
            copy.flush()
            os.fsync(copy.fileno())


@contextmanager
def _sent(work_dir: str, folder: Path, sha256: str) -> Iterator[BinaryIO]:
    """A file that was sent for this instance, opened, and no link; removed when it was used. Raises NodeError."""
    if not SHA256.fullmatch(sha256):
        raise NodeError(f"checkpoint {sha256!r}: not a sha256")
    path = Path(names.checkpoint_file(work_dir, folder.name, sha256))
    with os.fdopen(os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        yield file
    path.unlink()
