"""A model is the one that was declared, or it is refused with both names; it is downloaded and read once."""

import hashlib
import os
from pathlib import Path

import pytest
from conftest import Web

from fleet.artifacts import models
from fleet.artifacts.models import resolve
from fleet.base.errors import ModelError

CONTENT = b"GGUF" + bytes(range(256)) * 9000  # some 2 MB: more than one chunk
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = "0" * 64


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def left(cache: Path) -> set[str]:
    return {path.name for path in (cache / "models").iterdir() if not path.name.endswith(".lock")}


def test_a_local_model_is_known_by_its_sha256(file: Path, cache: Path):
    model = resolve({"path": str(file)}, cache)
    assert (model.path, model.sha256, model.size_bytes, model.name) == (file, SHA256, len(CONTENT), "tiny.gguf")


def test_a_model_in_several_files_is_known_by_all_of_them(tmp_path: Path, cache: Path):
    first, second = (tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2))
    for file in (first, second):
        file.write_bytes(CONTENT)
    found = resolve({"path": str(first)}, cache)
    assert (found.path, found.size_bytes, found.parts) == (first, 2 * len(CONTENT), (SHA256, SHA256))
    assert resolve({"path": str(first), "sha256": found.sha256}, cache) == found
    second.write_bytes(CONTENT + b"!")
    assert resolve({"path": str(first)}, cache).sha256 != found.sha256
    with pytest.raises(ModelError, match=r"m-00002-of-00002\.gguf: part 2 of 2; give the first"):
        resolve({"path": str(second)}, cache)
    second.unlink()
    with pytest.raises(ModelError, match=r"m-00002-of-00002\.gguf is missing beside it"):
        resolve({"path": str(first)}, cache)


def test_a_home_folder_is_expanded_and_capital_hex_is_hex(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(file.parent))
    assert resolve({"path": "~/tiny.gguf", "sha256": SHA256.upper()}, cache).path == file


def test_a_model_that_is_not_the_declared_one_is_refused_naming_both(file: Path, cache: Path):
    with pytest.raises(ModelError, match=f"{SHA256}, declared {OTHER}"):
        resolve({"path": str(file), "sha256": OTHER}, cache)


def test_a_model_is_read_once_while_it_stays_what_it_was(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    resolve({"path": str(file)}, cache)
    monkeypatch.setattr(models, "file_sha256", lambda path: pytest.fail(f"{path} was read again"))
    assert resolve({"path": str(file), "sha256": SHA256}, cache).sha256 == SHA256


@pytest.mark.parametrize("how", ["time", "size", "inode"])
def test_a_model_that_changed_is_read_again(file: Path, cache: Path, how: str):
    resolve({"path": str(file)}, cache)
    status = file.stat()
    changed = CONTENT[:-1] + b"!" + (b"!" if how == "size" else b"")
    if how == "inode":
        (file.parent / "new").write_bytes(changed)
        (file.parent / "new").rename(file)
    else:
        file.write_bytes(changed)
    if how != "time":
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert resolve({"path": str(file)}, cache).sha256 == hashlib.sha256(changed).hexdigest()


def test_a_damaged_index_costs_reading_again_and_nothing_else(file: Path, cache: Path):
    resolve({"path": str(file)}, cache)
    for text in ("{", "[]", f'{{"{file}": 3}}'):
        (cache / "models/index.json").write_text(text)
        assert resolve({"path": str(file)}, cache).sha256 == SHA256


def test_what_is_no_gguf_file_is_refused(file: Path, cache: Path, tmp_path: Path):
    file.write_bytes(b"version https://git-lfs")
    with pytest.raises(ModelError, match="not a GGUF file but a stub of git-lfs"):
        resolve({"path": str(file)}, cache)
    with pytest.raises(ModelError, match="no such file"):
        resolve({"path": str(tmp_path / "none.gguf")}, cache)
    with pytest.raises(ModelError, match="is a folder"):
        resolve({"path": str(tmp_path)}, cache)


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        ({}, "exactly one"),
        ({"path": "a", "url": "b"}, "exactly one"),
        ({"path": "a", "sha256": "abc"}, "64 hex digits"),
        ({"url": "https://host/a.gguf"}, "needs the file's sha256"),
        ({"url": "ftp://host/a.gguf", "sha256": OTHER}, "expected https://"),
    ],
)
def test_a_model_that_is_declared_badly_is_refused(cache: Path, model: dict[str, str], fault: str):
    with pytest.raises(ModelError, match=fault):
        resolve(model, cache)


def test_a_url_is_downloaded_once_and_kept_under_its_sha256(web: Web, cache: Path):
    (web.folder / "tiny.gguf").write_bytes(CONTENT)
    seen: list[tuple[int, int | None]] = []
    declared = {"url": f"{web.url}/tiny.gguf?download=true", "sha256": SHA256}
    model = resolve(declared, cache, progress=lambda done, total: seen.append((done, total)))
    assert (model.path, model.name, model.changed) == (cache / "models" / f"{SHA256}.gguf", "tiny.gguf", True)
    assert model.path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert len(seen) > 1
    assert resolve(declared, cache).changed is False
    assert len(web.asked) == 1


def test_a_file_address_is_an_address_too(file: Path, cache: Path):
    assert resolve({"url": file.as_uri(), "sha256": SHA256}, cache).path.read_bytes() == CONTENT


def test_what_is_in_another_kind_of_file_is_not_told(cache: Path, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("hunter2 and more of it")
    for model in ({"url": secret.as_uri(), "sha256": OTHER}, {"path": str(secret)}):
        with pytest.raises(ModelError, match="another kind of file") as refused:
            resolve(model, cache)
        assert "hunter2" not in str(refused.value)


def test_check_mode_downloads_and_writes_nothing(web: Web, file: Path, cache: Path):
    model = resolve({"url": f"{web.url}/tiny.gguf", "sha256": SHA256}, cache, check=True)
    assert (model.path, model.size_bytes, model.changed) == (cache / "models" / f"{SHA256}.gguf", None, True)
    assert resolve({"path": str(file)}, cache, check=True).sha256 == SHA256
    assert web.asked == []
    assert not cache.exists()


def test_a_download_that_is_another_file_is_refused_and_not_kept(web: Web, cache: Path):
    (web.folder / "tiny.gguf").write_bytes(CONTENT)
    with pytest.raises(ModelError, match=f"{SHA256}, declared {OTHER}"):
        resolve({"url": f"{web.url}/tiny.gguf", "sha256": OTHER}, cache)
    assert left(cache) == set()


def test_a_download_that_breaks_off_is_not_kept_and_can_be_repeated(web: Web, cache: Path):
    (web.folder / "tiny.gguf").write_bytes(CONTENT)
    web.cut.add("/tiny.gguf")
    declared = {"url": f"{web.url}/tiny.gguf", "sha256": SHA256}
    with pytest.raises(ModelError, match="broke off after"):
        resolve(declared, cache)
    assert left(cache) == set()
    web.cut.clear()
    assert resolve(declared, cache).path.read_bytes() == CONTENT


def test_a_web_page_instead_of_a_model_is_refused_at_once(web: Web, cache: Path):
    (web.folder / "tiny.gguf").write_bytes(b"<html>please log in")
    with pytest.raises(ModelError, match="got an HTML page"):
        resolve({"url": f"{web.url}/tiny.gguf", "sha256": SHA256}, cache)


def test_a_missing_page_and_a_dead_server_are_named_without_the_token(web: Web, cache: Path):
    with pytest.raises(ModelError, match="HTTP Error 404") as fault:
        resolve({"url": f"{web.url}/none.gguf?token=hush", "sha256": SHA256}, cache)
    assert "hush" not in str(fault.value)
    with pytest.raises(ModelError, match="refused"):
        resolve({"url": "http://127.0.0.1:9/a.gguf", "sha256": SHA256}, cache)


def test_a_kept_download_that_was_damaged_is_fetched_again(web: Web, cache: Path):
    (web.folder / "tiny.gguf").write_bytes(CONTENT)
    declared = {"url": f"{web.url}/tiny.gguf", "sha256": SHA256}
    resolve(declared, cache).path.write_bytes(b"GGUFbroken")
    assert resolve(declared, cache).path.read_bytes() == CONTENT
    assert len(web.asked) == 2
