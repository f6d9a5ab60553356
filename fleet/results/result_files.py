"""Unpacks the archive of an instance's result files, `files/<instance>.tar`, into `files/<instance>/`.

The archive comes from a node: of what is in it only regular files are taken, under names that lead nowhere else.
"""

from __future__ import annotations

import filecmp
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from contract.collected import FILES, MOST_FILES
from fleet.base.errors import MergeError


def unpack(run: Path, instance: str) -> list[str]:
    """Replace files/<instance>/ by the archive's content and remove the archive.

    Return the files that are new or differ, relative to the run's folder. Raise MergeError.
    """
    archive = run / FILES.name(instance)
    target = archive.with_suffix("")
    with tempfile.TemporaryDirectory(prefix=".unpacking.", dir=archive.parent) as scratch:
        made = Path(scratch) / "files"
        made.mkdir()
        try:
            names = _unpack(archive, made)
        except (tarfile.TarError, OSError, ValueError) as error:
            raise MergeError(f"{archive}: {error}") from error
        changed = [name for name in names if not _same(made / name, target / name)]
        gone = target.is_dir() and any(
            path.is_file() and not (made / path.relative_to(target)).exists() for path in target.rglob("*")
        )
        if changed or gone:
            shutil.rmtree(target, ignore_errors=True)
            made.rename(target)
    archive.unlink()
    return [f"{target.relative_to(run)}/{name}" for name in changed]


def _unpack(archive: Path, target: Path) -> list[str]:
    """Unpack into an empty folder. Raise ValueError for what may not be in an archive, OSError, TarError."""
    names: list[str] = []
    with tarfile.open(archive, "r:") as opened:
        for entry in opened:
            path = PurePosixPath(entry.name)
            if not entry.isreg() or path.is_absolute() or ".." in path.parts or not entry.name.isprintable():
                raise ValueError(f"{entry.name!r} is not a regular file below the instance's folder")
            if len(names) == MOST_FILES:
                raise ValueError(f"more than {MOST_FILES} files")
            source = opened.extractfile(entry)
            assert source is not None  # noqa: S101 - for the type checker: it is a regular file
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            with (target / path).open("xb") as file:
                shutil.copyfileobj(source, file)
            names.append(str(path))
    return names


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and not other.is_symlink() and filecmp.cmp(one, other, shallow=False)
