"""A file is what its sha256 says as long as nobody changed it; one that somebody did is read again."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from node import artifacts
from node.artifacts import Artifact, FileIndex

CONTENT = b"GGUF" + b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(CONTENT)
    return path


def is_damaged(model: Path, check: bool = False) -> bool:
    return Artifact("model", str(model), sha256=SHA256).is_damaged(FileIndex(str(model.parent), check))


def test_a_file_is_read_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_damaged(model)
    monkeypatch.delattr(artifacts, "_sha256")
    assert not is_damaged(model)


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT[:100] + b"?" + CONTENT[101:]])
def test_a_file_that_changed_is_damaged_whatever_its_time_says(model: Path, content: bytes) -> None:
    assert not is_damaged(model)
    before = model.stat()
    model.write_bytes(content)
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert is_damaged(model)
    assert is_damaged(model), "and stays so"
    model.write_bytes(CONTENT)
    assert not is_damaged(model)


def test_a_check_writes_nothing_and_an_index_that_is_nonsense_costs_reading_again(model: Path) -> None:
    is_damaged(model, check=True)
    assert [path.name for path in model.parent.iterdir()] == ["model.gguf"]
    for nonsense in ("", "[1]", json.dumps({str(model): 1}), "{"):
        (model.parent / ".index.json").write_text(nonsense)
        assert not is_damaged(model)


def test_what_is_not_there_is_missing_and_not_damaged(tmp_path: Path) -> None:
    assert not is_damaged(tmp_path / "none.gguf")


def test_what_root_has_verified_is_not_read_again(model: Path) -> None:
    model.write_bytes(b"other")
    item = Artifact("build", str(model), sha256=SHA256, root_owned=True)
    assert not item.is_damaged(FileIndex(str(model.parent)))
