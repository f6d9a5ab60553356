"""Root's files in a folder in which an instance makes files too: whatever lies there under their names."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from contract import ContractError
from contract.json_records import read_bytes
from node import shared_folder

SOMEBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user, as root can")

PLANTED: list[Callable[[Path], object]] = [
    lambda path: path.write_text("forged"),
    lambda path: path.symlink_to("/etc/passwd"),
    lambda path: os.mkfifo(path),
    lambda path: path.mkdir(),
]
IDS = ["file", "link", "pipe", "folder"]


@pytest.fixture(params=PLANTED, ids=IDS)
def planted(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The path of a file of root's, at which an instance has put something of its own."""
    shared_folder.make(tmp_path, SOMEBODY)
    path = tmp_path / "outcome.json"
    request.param(path)
    os.lchown(path, SOMEBODY, SOMEBODY)
    return path


def content(path: Path) -> str:
    found = path.lstat()
    assert stat.S_ISREG(found.st_mode)
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o644)
    return path.read_text()


@pytest.mark.parametrize("replace", [True, False])
def test_what_is_written_replaces_whatever_an_instance_has_put_there(planted: Path, replace: bool) -> None:
    before = Path("/etc/passwd").read_bytes()
    shared_folder.write(planted, "true", replace=replace)
    assert content(planted) == "true"
    assert Path("/etc/passwd").read_bytes() == before


def test_a_line_is_never_added_to_what_an_instance_has_put_there(planted: Path) -> None:
    before = Path("/etc/passwd").read_bytes()
    shared_folder.append_line(planted, "one")
    shared_folder.append_line(planted, "two")
    assert content(planted) == "one\ntwo\n"
    assert Path("/etc/passwd").read_bytes() == before


def test_what_an_instance_has_put_there_is_not_read(planted: Path) -> None:
    with pytest.raises(ContractError, match=r"^outcome.json: "):
        read_bytes(planted, 100, shared_folder.owner(planted.parent))


def test_what_root_has_written_stays_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "outcome.json"
    shared_folder.write(path, "first", replace=False)
    shared_folder.write(path, "second", replace=False)
    assert content(path) == "first"
    shared_folder.write(path, "third")
    assert content(path) == "third"
    assert [entry.name for entry in tmp_path.iterdir()] == ["outcome.json"]


def test_in_a_folder_of_the_ssh_user_its_files_count_and_root_s_do(tmp_path: Path) -> None:
    """As in the folder of an instance that was started before instances had users of their own."""
    os.chown(tmp_path, SOMEBODY, SOMEBODY)
    owner = shared_folder.owner(tmp_path)
    for name, uid in (("hers", SOMEBODY), ("root's", 0)):
        (tmp_path / name).write_text(name)
        os.chown(tmp_path / name, uid, uid)
        assert read_bytes(tmp_path / name, 100, owner).decode() == name
    (tmp_path / "another's").write_text("no")
    os.chown(tmp_path / "another's", SOMEBODY - 1, SOMEBODY - 1)
    with pytest.raises(ContractError):
        read_bytes(tmp_path / "another's", 100, owner)
