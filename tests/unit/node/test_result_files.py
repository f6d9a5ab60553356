"""Result files: packed on a node out of a folder that code writes to, and unpacked into the record."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from contract import collected
from fleet.base.errors import MergeError
from fleet.results.result_files import unpack
from node import result_files
from node.errors import NodeError

LIMIT = 10_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "instance"
    for name in ("out/a.csv", "out/deep/er/b.csv", "out/c.txt", "notes.md", "logs/exits.jsonl", "experiments.db"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(f"{name}\n")
    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run/files").mkdir(parents=True)
    return tmp_path / "run"


def packed(folder: Path, run: Path, *patterns: str, limit: int = LIMIT) -> list[str]:
    """Pack into the record what matches; what was left out."""
    return result_files.pack(folder, patterns, {os.getuid()}, run / "files/a.tar", limit)


def there(run: Path) -> dict[str, str]:
    target = run / "files/a"
    return {str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("patterns", "files"),
    [
        (["out/**"], {"out/a.csv", "out/deep/er/b.csv", "out/c.txt"}),
        (["out/*"], {"out/a.csv", "out/c.txt"}),
        (["**/*.csv"], {"out/a.csv", "out/deep/er/b.csv"}),
        (["notes.md", "out/?.txt"], {"notes.md", "out/c.txt"}),
        (["**"], {"out/a.csv", "out/deep/er/b.csv", "out/c.txt", "notes.md"}),
        (["none/**"], set()),
    ],
)
def test_what_matches_comes_home(folder: Path, run: Path, patterns: list[str], files: set[str]) -> None:
    assert packed(folder, run, *patterns) == []
    assert unpack(run, "a") == sorted(f"files/a/{name}" for name in files)
    assert there(run) == {name: f"{name}\n" for name in files}
    assert [path.name for path in (run / "files").iterdir()] == (["a"] if files else [])


def test_what_is_the_same_changes_nothing_and_what_is_gone_goes(folder: Path, run: Path) -> None:
    packed(folder, run, "out/*")
    unpack(run, "a")
    packed(folder, run, "out/*")
    assert unpack(run, "a") == []
    (folder / "out/a.csv").write_text("other")
    (folder / "out/c.txt").unlink()
    packed(folder, run, "out/*")
    assert unpack(run, "a") == ["files/a/out/a.csv"]
    assert there(run) == {"out/a.csv": "other"}


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "Too many levels of symbolic links"),
        (lambda path: os.mkfifo(path), "not a regular file of the instance's"),
        (lambda path: path.write_bytes(b"x" * (LIMIT + 1)), "there is no room for its 10001 bytes"),
    ],
    ids=["link", "pipe", "large"],
)
def test_what_an_instance_plants_is_left_out_and_named(
    folder: Path, run: Path, plant: Callable[[Path], None], fault: str
) -> None:
    plant(folder / "out/planted")
    (folder / "out/link").symlink_to("/etc")  # a folder elsewhere
    (left,) = [said for said in packed(folder, run, "out/**") if "out/planted" in said]
    assert fault in left
    unpack(run, "a")
    assert set(there(run)) == {"out/a.csv", "out/deep/er/b.csv", "out/c.txt"}


def test_a_name_that_cannot_be_printed_costs_its_own_file_alone(folder: Path, run: Path) -> None:
    (folder / "out/terminal\x1b]0;").write_text("")
    (folder / os.fsdecode(b"out/\xff")).write_text("")
    assert packed(folder, run, "out/*") == [
        "'out/terminal\\x1b]0;': its name cannot be printed",
        "'out/\\udcff': its name cannot be printed",
    ]
    unpack(run, "a")
    assert set(there(run)) == {"out/a.csv", "out/c.txt"}


def test_files_without_end_are_refused(folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_files, "MOST_FILES", 2)
    with pytest.raises(NodeError, match="more than 2 files match"):
        packed(folder, run, "**")
    monkeypatch.setattr(result_files, "MOST_ENTRIES", 2)
    with pytest.raises(NodeError, match="more than 2 files and folders"):
        packed(folder, run, "nothing")


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
    return made


@pytest.mark.parametrize(
    "hostile",
    [
        entry("../manifest.json"),
        entry("/escaped"),
        entry("a/../../manifest.json"),
        entry("terminal\x1b]0;"),
        entry("link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("hard", tarfile.LNKTYPE, "../../manifest.json"),
        entry("pipe", tarfile.FIFOTYPE),
        entry("device", tarfile.CHRTYPE),
        entry("folder", tarfile.DIRTYPE),
    ],
    ids=lambda made: repr(made.name),
)
def test_an_archive_of_a_node_that_lies_is_refused_whole(run: Path, hostile: tarfile.TarInfo) -> None:
    (run / "manifest.json").write_text("signed")
    with tarfile.open(run / collected.FILES.name("a"), "w") as archive:
        archive.addfile(entry("good"), io.BytesIO(b"x"))
        archive.addfile(hostile, io.BytesIO(b"x"))
    with pytest.raises(MergeError):
        unpack(run, "a")
    assert (run / "manifest.json").read_text() == "signed"
    assert not (run / "files/a").exists()


def test_what_is_no_archive_is_refused(run: Path) -> None:
    (run / collected.FILES.name("a")).write_bytes(b"not one" * 1000)
    with pytest.raises(MergeError):
        unpack(run, "a")
