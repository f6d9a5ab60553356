"""An instance's epochs on a node: a new folder each, filled from a checkpoint; the one before stays as it was."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
from pathlib import Path

import pytest

from contract import names
from contract.description import InstanceDescription
from contract.exits import Exit
from contract.launch_spec import Checkpoint
from node import epochs, exit_log
from node.errors import NodeError

ME = pwd.getpwuid(os.getuid())


def instance(folder: Path, epoch: int) -> InstanceDescription:
    return InstanceDescription("x_20261123T141500Z_aaaa", "a", folder, "http://127.0.0.1:1", epoch=epoch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "a"
    (made / "logs").mkdir(parents=True)
    return made


def describe(folder: Path, epoch: int) -> None:
    (folder / names.DESCRIPTION).write_text(json.dumps(instance(folder, epoch).to_json()))


def test_an_earlier_epoch_makes_way_and_a_later_one_does_not(folder: Path) -> None:
    assert epochs.earlier(folder, instance(folder, 2)) == 0, "nothing is there"
    describe(folder, 1)
    assert epochs.earlier(folder, instance(folder, 1)) == 0
    assert epochs.earlier(folder, instance(folder, 3)) == 1
    describe(folder, 4)
    with pytest.raises(NodeError, match="a is here in epoch 4 already: epoch 3 is not started any more"):
        epochs.earlier(folder, instance(folder, 3))


def test_what_was_is_kept_beside_it_without_its_copies(folder: Path) -> None:
    describe(folder, 1)
    copies = folder.parent / "copies"
    copies.mkdir()
    epochs.put_aside(folder, 1, [str(copies), str(copies / "none")])
    assert (folder.parent / "a.e1" / names.DESCRIPTION).is_file()
    assert not folder.exists()
    assert not copies.exists()
    assert not names.INSTANCE_ID.fullmatch("a.e1")


def sent(work_dir: Path, content: bytes) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    path = Path(names.checkpoint_file(str(work_dir), "a", sha256))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return sha256


def test_a_checkpoint_becomes_the_database_and_the_exits_come_along(folder: Path, tmp_path: Path) -> None:
    before = Exit("workload", cause="stopped", node="n1", invocation="i")
    sha256 = sent(tmp_path, b"rows")
    epochs.restore(folder, Checkpoint(sha256, exits=(before,)), str(tmp_path), ME)
    assert (folder / names.DATABASE).read_bytes() == b"rows"
    assert exit_log.exits(folder).exits == (before,)
    assert not list((tmp_path / "checkpoints").iterdir()), "it is not needed any more"


def test_no_name_and_no_link_leads_elsewhere(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="not a sha256"):
        epochs.restore(folder, Checkpoint("../../secret"), str(tmp_path), ME)
    (tmp_path / "secret").write_text("secret")
    sha256 = sent(tmp_path, b"rows")
    path = Path(names.checkpoint_file(str(tmp_path), "a", sha256))
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        epochs.restore(folder, Checkpoint(sha256), str(tmp_path), ME)
    assert not (folder / names.DATABASE).exists()
