"""Get the source archive of llama.cpp on the controller from an sdist on PyPI, a URL or a file, and verify it.

It is kept as `<cache_dir>/llama.cpp/source/<sha256>/<file name>`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.artifacts.downloads import Progress, download, file_name
from fleet.base.errors import SourceError
from fleet.base.files import SHA256, file_sha256, sync_folder

MAGIC = (b"\x1f\x8b", b"PK\x03\x04")  # gzip, zip
KINDS = ("pypi", "url", "path")
PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._!+-]*")
TIMEOUT = 1800  # seconds: 77 MB over a slow line


def fetch(source: Mapping[str, Any], cache_dir: str | os.PathLike[str], *, progress: Progress | None = None) -> Path:
    """Return the archive (.tar.gz or .zip) that `source` names by one of `pypi: name==version`, `url`, `path`.

    `sha256` is required with pypi and url, and always verified. Idempotent and atomic. Raise SourceError on failure.
    """
    kind, value, declared = _parse(source)
    store = _store(cache_dir)
    try:
        found = _kept(store, declared)
        if found:
            return found
        if kind == "path":
            return _from_path(Path(value).expanduser(), declared, store)
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch.", dir=store) as scratch:
            if kind == "url":
                archive = Path(scratch) / (file_name(value) or "llama.cpp")
                download(value, archive, declared, SourceError, magic=MAGIC, progress=progress)
            else:
                archive = _pip(value, declared, Path(scratch))
            return _keep(archive, declared, store)
    except OSError as error:
        raise SourceError(f"llama_cpp_source.{kind} {value}: {error}") from error


def cached(source: Mapping[str, Any], cache_dir: str | os.PathLike[str]) -> Path | None:
    """Return the archive if it is in the cache, else None. Download and write nothing: for check mode."""
    kind, value, declared = _parse(source)
    try:
        if kind == "path" and not declared and Path(value).expanduser().is_file():
            declared = file_sha256(Path(value).expanduser())
        return _kept(_store(cache_dir), declared)
    except OSError as error:
        raise SourceError(f"llama_cpp_source.{kind} {value}: {error}") from error


def _parse(source: Mapping[str, Any]) -> tuple[str, str, str]:
    given = [kind for kind in KINDS if source.get(kind)]
    if len(given) != 1:
        raise SourceError(f"llama_cpp_source: give exactly one of {', '.join(KINDS)}, found {given or 'none'}")
    kind, value = given[0], str(source[given[0]])
    declared = str(source.get("sha256") or "").strip().lower()
    if not declared and kind != "path":
        raise SourceError(f"llama_cpp_source.sha256: required with `{kind}`; add the archive's sha256")
    if declared and not SHA256.fullmatch(declared):
        raise SourceError(f"llama_cpp_source.sha256: {declared!r} is not 64 hex digits; `sha256sum FILE` prints it")
    if kind == "pypi" and not PIN.fullmatch(value):
        raise SourceError(f"llama_cpp_source.pypi: {value!r}: expected name==version")
    return kind, value, declared


def _store(cache_dir: str | os.PathLike[str]) -> Path:
    return Path(cache_dir).expanduser().absolute() / "llama.cpp" / "source"


def _kept(store: Path, declared: str) -> Path | None:
    folder = store / declared
    files = sorted(folder.iterdir()) if declared and folder.is_dir() else []
    if not files:
        return None
    if len(files) == 1 and file_sha256(files[0]) == declared:
        return files[0]
    raise SourceError(f"{folder}: was changed since it was fetched; remove that folder and run again")


def _from_path(path: Path, declared: str, store: Path) -> Path:
    if not path.is_file():
        raise SourceError(f"llama_cpp_source.path: {path}: no such file; it names a .tar.gz or .zip on the controller")
    with path.open("rb") as file:
        start = file.read(4)
    if not start.startswith(MAGIC):
        raise SourceError(f"llama_cpp_source.path: {path}: neither a .tar.gz nor a .zip (it begins with {start!r})")
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch.", dir=store) as scratch:
        # Hash the copy, so that the file that is kept is the one that was verified.
        archive = Path(shutil.copyfile(path, Path(scratch) / path.name))
        found = file_sha256(archive)
        if declared and found != declared:
            raise SourceError(
                f"llama_cpp_source.path: {path}: sha256 {found}, declared {declared}; correct one of the two"
            )
        return _keep(archive, found, store)


def _pip(pin: str, declared: str, folder: Path) -> Path:
    # Use a requirements file, since that is the only way to give pip the hash. pip then refuses a different archive
    # *before* it asks the archive for its metadata, which runs code from the archive.
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{pin} --hash=sha256:{declared}\n", encoding="utf-8")
    got = folder / "got"
    got.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check",
               "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes",
               "--dest", str(got), "--requirement", str(wanted)]  # fmt: skip
    try:
        done = subprocess.run(  # noqa: S603 - a list, no shell; the name was matched against PIN
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"llama_cpp_source.pypi: {pin}: pip did not finish within {TIMEOUT} s") from error
    files = sorted(got.iterdir())
    if done.returncode != 0 or len(files) != 1:
        said = (
            " ".join(line.strip() for line in done.stderr.strip().splitlines()[-8:]) or f"pip left {len(files)} files"
        )
        raise SourceError(
            f"llama_cpp_source.pypi: {pin}: {said}; without PyPI, download the sdist elsewhere and name it by `path`"
        )
    with files[0].open("rb") as file:
        if not file.read(4).startswith(MAGIC):
            raise SourceError(f"llama_cpp_source.pypi: {pin}: {files[0].name} is neither a .tar.gz nor a .zip")
    if (found := file_sha256(files[0])) != declared:
        raise SourceError(f"llama_cpp_source.pypi: {pin}: sha256 {found}, declared {declared}; correct one of the two")
    return files[0]


def _keep(archive: Path, sha256: str, store: Path) -> Path:
    """Move the archive into a temporary folder and rename that folder, so that `<sha256>/` is never incomplete."""
    aside = Path(tempfile.mkdtemp(dir=store, prefix=".keep."))
    try:
        aside.chmod(0o755)
        archive.chmod(0o644)
        archive.rename(aside / archive.name)
        try:
            aside.rename(store / sha256)
        except OSError:
            kept = _kept(store, sha256)  # another process stored it first
            if kept is None:
                raise
            return kept
        sync_folder(store)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return store / sha256 / archive.name
