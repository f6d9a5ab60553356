"""Packages of the user's code: wheels for another machine's Python, by real pip, from a folder of wheels made here."""

import zipfile
from pathlib import Path

import pytest

from fleet.artifacts.packages import Kind, Packages, again, requirements, resolve
from fleet.base.errors import ReleaseError

PI = Kind("3.11", "aarch64", "2.36")
JETSON = Kind("3.8", "aarch64", "2.31")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """`pure` for all, `quick` (which needs it) for Python 3.11 on aarch64, and one that is source only."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel(folder, "pure-1.0-py3-none-any", {"pure.py": "NAME = 'pure'\n", "pure_data/cacert.pem": "certificates"})
    wheel(folder, "quick-2.0-cp311-cp311-manylinux_2_28_aarch64", {"quick.py": "import pure\n"}, "Requires-Dist: pure")
    (folder / "only_source-1.0.tar.gz").write_bytes(b"setup.py would be run")
    return folder


def wheel(folder: Path, name: str, files: dict[str, str], *more: str) -> None:
    project, version, *tag = name.split("-")
    info = f"{project}-{version}.dist-info"
    metadata = "\n".join(["Metadata-Version: 2.1", f"Name: {project}", f"Version: {version}", *more, ""])
    tagged = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {'-'.join(tag)}\n"
    entries = {
        **files,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": tagged,
        f"{info}/entry_points.txt": f"[console_scripts]\n{project}-run = {project}:main\n",
    }
    with zipfile.ZipFile(folder / f"{name}.whl", "w") as archive:
        for path, text in entries.items():
            archive.writestr(path, text)
        record = "".join(f"{path},,\n" for path in [*entries, f"{info}/RECORD"])
        archive.writestr(f"{info}/RECORD", record)


def asks(wheels: Path, *lines: str) -> str:
    return "\n".join(["--no-index", f"--find-links {wheels.as_uri()}", *lines, ""])


def test_wheels_for_that_kind_of_node_are_put_in_a_folder_named_for_its_content(cache: Path, wheels: Path) -> None:
    found = resolve(asks(wheels, "quick"), PI, cache)
    folder = cache / "packages" / found.digest
    assert Path(found.src) == folder
    assert {"pure.py", "quick.py", "pure_data"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "bin").exists(), "programs name this machine's Python"
    assert [line.split(" --hash=sha256:")[0] for line in found.wanted] == ["pure==1.0", "quick==2.0"]


def test_a_package_without_a_wheel_for_a_kind_of_node_is_named(cache: Path, wheels: Path) -> None:
    with pytest.raises(ReleaseError, match="No matching distribution found for quick"):
        resolve(asks(wheels, "quick"), JETSON, cache)
    with pytest.raises(ReleaseError, match="only_source"):
        resolve(asks(wheels, "only_source"), PI, cache)
    assert resolve(asks(wheels, "pure"), JETSON, cache).wanted[0].startswith("pure==1.0 ")


def test_the_same_file_gives_the_same_packages_while_they_are_kept(cache: Path, wheels: Path) -> None:
    before = resolve(asks(wheels, "pure"), PI, cache)
    wheel(wheels, "pure-1.1-py3-none-any", {"pure.py": "newer\n"})
    assert resolve(asks(wheels, "pure"), PI, cache) == before
    assert resolve(asks(wheels, "pure>=1"), PI, cache).wanted[0].startswith("pure==1.1 ")


def test_recorded_packages_come_from_the_cache_or_by_their_hashes(cache: Path, wheels: Path) -> None:
    before = resolve(asks(wheels, "quick"), PI, cache)
    recorded = Packages(before.digest, "", (*asks(wheels).split("\n"), *before.wanted))
    assert again(recorded, PI, cache).src == before.src
    elsewhere = cache.parent / "other"
    assert again(recorded, PI, elsewhere).digest == before.digest, "the content depends on nothing of this machine"
    wheel(wheels, "pure-1.0-py3-none-any", {"pure.py": "replaced\n"})
    with pytest.raises(ReleaseError, match=r"(?i)hash"):
        again(recorded, PI, cache.parent / "third")


def test_a_hash_in_the_file_is_enforced(cache: Path, wheels: Path) -> None:
    with pytest.raises(ReleaseError, match=r"(?i)hash"):
        resolve(asks(wheels, f"pure==1.0 --hash=sha256:{'0' * 64}"), PI, cache)


def test_a_check_writes_nothing(cache: Path, wheels: Path) -> None:
    assert resolve(asks(wheels, "pure"), PI, cache, check=True).digest
    assert not cache.exists()


def test_the_lock_file_counts_before_the_other(tmp_path: Path) -> None:
    assert requirements(tmp_path) == ""
    (tmp_path / "requirements.txt").write_text("pure\n")
    assert requirements(tmp_path) == "pure\n"
    (tmp_path / "requirements.lock").write_text("pure==1.0\n")
    assert requirements(tmp_path) == "pure==1.0\n"


def test_the_platforms_are_those_whose_wheels_run_with_that_glibc() -> None:
    assert JETSON.platforms[0] == "manylinux_2_31_aarch64"
    assert "manylinux_2_36_aarch64" in PI.platforms
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(Kind("3.11", "aarch64").platforms)
