"""What is brought from a node: the files that were asked for and no others, whatever it sends. By rsync itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fleet.base.transport import TransferError, fetch

LIMITS = {"logs/a.log": 100, "db/a.db": 1000}


class Local:
    """A connection to this machine."""

    transport = "local"


class Lying:
    """A connection to a node whose rsync sends another folder than it was asked for, links and all."""

    transport = "ssh"

    def __init__(self, script: Path, folder: Path) -> None:
        script.write_text(f'#!/bin/sh\ncd "{folder}"\nexec rsync --server --sender -logDtpre.iLsfxCIvu . .\n')
        script.chmod(0o755)
        self.script = script

    def get_option(self, option: str) -> Any:
        return "node"

    def _build_command(self, binary: str, subsystem: str, *other_args: str) -> list[bytes]:
        return [str(self.script).encode()]


@pytest.fixture
def node(tmp_path: Path) -> Path:
    folder = tmp_path / "node"
    for name in ("logs", "db"):
        (folder / name).mkdir(parents=True)
    (folder / "logs/a.log").write_text("said\n")
    (folder / "db/a.db").write_text("rows")
    return folder


@pytest.fixture
def record(tmp_path: Path) -> Path:
    folder = tmp_path / "record"
    folder.mkdir()
    (folder / "manifest.json").write_text("signed")
    return folder


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return {str(path.relative_to(folder)): "a link" if path.is_symlink() else path.read_text() for path in found}


def test_what_differs_is_brought_and_named(node: Path, record: Path) -> None:
    everything = {"manifest.json": "signed", "logs/a.log": "said\n", "db/a.db": "rows"}
    assert fetch(Local(), str(node), LIMITS, record) == ["logs/a.log", "db/a.db"]
    assert files(record) == everything
    os.utime(node / "logs/a.log", (0, 0))
    assert fetch(Local(), str(node), LIMITS, record) == []
    (node / "logs/a.log").write_text("more\n")
    assert fetch(Local(), str(node), LIMITS, record) == ["logs/a.log"]
    assert files(record) == {**everything, "logs/a.log": "more\n"}


def test_a_file_may_lie_deep(node: Path, record: Path) -> None:
    (node / "kept" / "one").mkdir(parents=True)
    (node / "kept" / "one" / "a.db").write_text("rows")
    assert fetch(Local(), str(node), {"kept/one/a.db": 100, "kept/two/a.db": 100}, record) == ["kept/one/a.db"]
    assert files(record) == {"manifest.json": "signed", "kept/one/a.db": "rows"}


def test_a_file_that_is_not_there_is_no_error(node: Path, record: Path) -> None:
    (node / "db/a.db").unlink()
    assert fetch(Local(), str(node), LIMITS, record) == ["logs/a.log"]


@pytest.mark.parametrize(
    "plant",
    [
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: os.mkfifo(path),
        lambda path: path.mkdir(),
    ],
    ids=["link", "pipe", "folder"],
)
def test_what_is_no_regular_file_is_not_taken(node: Path, record: Path, plant: Callable[[Path], None]) -> None:
    (node / "logs/a.log").unlink()
    plant(node / "logs/a.log")
    (node / "manifest.json").write_text("forged")
    with suppress(TransferError):
        assert fetch(Local(), str(node), LIMITS, record) == ["db/a.db"]
    assert set(files(record)) <= {"manifest.json", "db/a.db"}
    assert files(record)["manifest.json"] == "signed"


@pytest.mark.parametrize("size", [101, 1001])
def test_a_file_above_its_limit_is_left_where_it_is(node: Path, record: Path, size: int) -> None:
    (node / "logs/a.log").write_text("x" * size)
    with suppress(TransferError):
        fetch(Local(), str(node), LIMITS, record)
    assert "logs/a.log" not in files(record)


def test_a_node_that_sends_something_else_harms_no_record(node: Path, record: Path, tmp_path: Path) -> None:
    (node / "manifest.json").write_text("forged")
    (node / "logs/a.log").unlink()
    (node / "logs/a.log").symlink_to("/etc/passwd")
    with pytest.raises(TransferError):
        fetch(Lying(tmp_path / "ssh", node), "/somewhere", LIMITS, record)
    assert files(record) == {"manifest.json": "signed"}
    assert [path.name for path in record.iterdir()] == ["manifest.json"]


def test_a_login_shell_that_prints_is_named_with_the_cure(node: Path, record: Path, tmp_path: Path) -> None:
    chatty = Lying(tmp_path / "ssh", node)
    chatty.script.write_text("#!/bin/sh\necho welcome to the node\nsleep 1\n")
    with pytest.raises(TransferError, match=r"login shell prints something.*~/\.bashrc"):
        fetch(chatty, "/somewhere", LIMITS, record)
