"""The source archive of llama.cpp: whichever way it comes, it is the one whose sha256 was declared."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import Web

from fleet.artifacts.llama_source import cached, fetch
from fleet.base.errors import SourceError

OTHER = "0" * 64
# A whole PEP 517 sdist: its own build backend, so that pip needs nothing else to ask it for its metadata.
SDIST = {
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    "PKG-INFO": "Metadata-Version: 2.1\nName: tiny-llama\nVersion: 1.0\n",
    "backend.py": """
import pathlib
def prepare_metadata_for_build_wheel(directory, settings=None):
    pathlib.Path("RAN").write_text("")
    info = pathlib.Path(directory, "tiny_llama-1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: tiny-llama\\nVersion: 1.0\\n")
    return info.name
def build_wheel(*_): raise NotImplementedError
def build_sdist(*_): raise NotImplementedError
""",
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "index" / "tiny_llama-1.0.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        for name, text in SDIST.items():
            member = tarfile.TarInfo(f"tiny_llama-1.0/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kept(cache: Path) -> list[str]:
    folder = cache / "llama.cpp/source"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_local_archive_is_kept_under_its_sha256(archive: Path, cache: Path):
    found = fetch({"path": str(archive), "commit": "abc"}, cache)
    assert found == cache / "llama.cpp/source" / sha256(archive) / archive.name
    assert found.read_bytes() == archive.read_bytes()
    assert kept(cache) == [f"{sha256(archive)}/{archive.name}"]


def test_fetching_again_writes_nothing_and_needs_no_source(archive: Path, cache: Path):
    source = {"path": str(archive), "sha256": sha256(archive).upper()}
    first = fetch(source, cache)
    before = first.lstat()
    archive.unlink()
    assert fetch(source, cache).lstat() == before


def test_a_zip_is_an_archive_too(tmp_path: Path, cache: Path):
    path = tmp_path / "llama.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", "b")
    assert fetch({"path": str(path)}, cache).name == "llama.zip"


def test_a_local_file_that_is_no_archive_or_another_one_is_refused(archive: Path, cache: Path, tmp_path: Path):
    with pytest.raises(SourceError, match=f"{sha256(archive)}, declared {OTHER}"):
        fetch({"path": str(archive), "sha256": OTHER}, cache)
    with pytest.raises(SourceError, match="no such file"):
        fetch({"path": str(tmp_path / "none")}, cache)
    archive.write_text("text")
    with pytest.raises(SourceError, match=r"neither a \.tar\.gz nor a \.zip"):
        fetch({"path": str(archive)}, cache)
    assert kept(cache) == []


def test_an_address_is_fetched_once(archive: Path, cache: Path, web: Web):
    archive.rename(web.folder / "b10000.tar.gz")
    source = {"url": f"{web.url}/b10000.tar.gz", "sha256": sha256(web.folder / "b10000.tar.gz")}
    assert cached(source, cache) is None
    found = fetch(source, cache)
    assert found.name == "b10000.tar.gz"
    assert fetch(source, cache) == cached(source, cache) == found
    assert web.asked == ["/b10000.tar.gz"]


def test_an_address_that_gives_another_archive_is_refused(archive: Path, cache: Path, web: Web):
    archive.rename(web.folder / "a.tar.gz")
    with pytest.raises(SourceError, match=f"declared {OTHER}"):
        fetch({"url": f"{web.url}/a.tar.gz", "sha256": OTHER}, cache)
    assert kept(cache) == []


def test_an_sdist_comes_through_pip(archive: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    found = fetch({"pypi": "tiny-llama==1.0", "sha256": sha256(archive)}, cache)
    assert found == cache / "llama.cpp/source" / sha256(archive) / archive.name
    assert kept(cache) == [f"{sha256(archive)}/{archive.name}"]


def test_an_sdist_that_is_another_one_is_refused_by_pip_itself(
    archive: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    with pytest.raises(SourceError, match="DO NOT MATCH THE HASHES"):
        fetch({"pypi": "tiny-llama==1.0", "sha256": OTHER}, cache)
    assert kept(cache) == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ({}, "exactly one"),
        ({"pypi": "a==1", "url": "https://x"}, "exactly one"),
        ({"pypi": "a==1"}, "sha256: required with `pypi`"),
        ({"url": "https://x/a.zip"}, "sha256: required with `url`"),
        ({"path": "x", "sha256": "12"}, "64 hex digits"),
        ({"pypi": "llama-cpp-python", "sha256": OTHER}, "expected name==version"),
        ({"pypi": "--index-url=http://x a==1", "sha256": OTHER}, "expected name==version"),
        ({"pypi": "a==1\n--index-url=http://x", "sha256": OTHER}, "expected name==version"),
        ({"url": "ftp://x/a.zip", "sha256": OTHER}, "expected https://"),
    ],
)
def test_a_source_that_is_declared_badly_is_refused(cache: Path, source: dict[str, str], fault: str):
    with pytest.raises(SourceError, match=fault):
        fetch(source, cache)


def test_a_kept_archive_that_was_changed_is_refused(archive: Path, cache: Path):
    source = {"path": str(archive), "sha256": sha256(archive)}
    fetch(source, cache).write_bytes(b"\x1f\x8bother")
    with pytest.raises(SourceError, match="changed since it was fetched"):
        fetch(source, cache)
