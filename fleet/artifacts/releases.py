"""The code that is sent to the nodes: an immutable release on the controller, `<cache_dir>/releases/<hash>/`.

    workload/   the project's own: what runs beside llama-server
    contract/   the project's own: what it shares with the controller
    code/       the user's, when the experiment names a source

The hash depends only on paths, executable bits and contents, so the same tree always has the same hash. Secrets, .git
and what .gitignore lists are never sent.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fleet.artifacts import git, source_tree
from fleet.base.addresses import redacted
from fleet.base.errors import ReleaseError
from fleet.base.files import locked

WORKLOAD = "workload"  # the stated source of a release without user code
CODE = "code"
PARTS = (CODE, "contract", WORKLOAD)  # the folders of a release


@dataclass(frozen=True)
class Release:
    """A release. `path` is its folder; in check mode it may not exist yet."""

    hash: str
    path: Path
    changed: bool  # whether it is (in check mode: would be) newly staged
    source: str  # of the user's code: folder, or address without credentials; "" without user code
    commit: str  # of a git address; "" otherwise
    files: int
    size_bytes: int
    code_files: int  # of them, the user's
    code_bytes: int
    left_out: Mapping[str, str]  # {file or folder that is not sent, as a path in the release: the rule}


def stage(
    cache_dir: str | os.PathLike[str],
    packages: Sequence[Path],
    source: str | os.PathLike[str] | None = None,
    ref: str | None = None,
    *,
    check: bool = False,
) -> Release:
    """Stage the project's packages and, if given, the user's code. Atomic; an existing release is not rewritten.

    packages: folders of the project, each of which is sent under its own name. source: a folder, or a git address
    (https://, ssh://, file://, git@host:path) with `ref`, a branch, tag or commit (default: the remote's default
    branch). check: compute everything, write nothing below cache_dir. Raise ReleaseError on failure.
    """
    cache = Path(cache_dir).expanduser().absolute()
    try:
        with ExitStack() as stack:
            return _stage(stack, cache, packages, os.fspath(source or ""), ref, check)
    except OSError as error:
        raise ReleaseError(f"cannot stage the release: {error}") from error


def compute(
    cache_dir: str | os.PathLike[str],
    packages: Sequence[Path],
    source: str | os.PathLike[str] | None = None,
    ref: str | None = None,
) -> str:
    """Return the hash that `stage` would give, without writing anything."""
    return stage(cache_dir, packages, source, ref, check=True).hash


def staged(cache_dir: str | os.PathLike[str], digest: str) -> Path | None:
    """Return the folder of the release with this hash, verified; None if missing.

    Raise ReleaseError if it was modified.
    """
    path = Path(cache_dir).expanduser().absolute() / "releases" / digest
    if not path.is_dir():
        return None
    _verify(path)
    return path


def _stage(
    stack: ExitStack, cache: Path, packages: Sequence[Path], source: str, ref: str | None, check: bool
) -> Release:
    trees = {package.name: source_tree.read(package, package.name) for package in packages}
    for package in packages:
        if not trees[package.name].entries:
            raise ReleaseError(f"{package}: the project's {package.name} is empty; is the clone complete?")
    shown = commit = ""
    if source and git.is_url(source):
        if not check:
            cache.mkdir(parents=True, exist_ok=True)
        room = None if check else cache  # not in /tmp, which may be held in memory
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".export.", dir=room)))
        commit = git.export(source, ref, scratch, None if check else cache / "git")
        shown = redacted(source)
        trees[CODE] = source_tree.read(scratch, CODE, ignores=False)
    elif source:
        folder = Path(source).expanduser()
        if ref is not None:
            raise ReleaseError(f"ref {ref!r}: goes with a git address only; for a folder's ref use file://{folder}")
        if not folder.is_dir():
            raise ReleaseError(
                f"{source}: neither a folder nor a git address (https://, ssh://, file://, git@host:path)"
            )
        shown = str(folder.resolve())
        trees[CODE] = source_tree.read(folder, CODE)
        trees[CODE].left_out |= source_tree.ignored(folder.resolve(), trees[CODE])
    elif ref is not None:
        raise ReleaseError(f"ref {ref!r}: without a source there is nothing it could name; set the source too")
    if CODE in trees:
        _check_names(shown, trees[CODE], [package.name for package in packages])
    if CODE in trees and not trees[CODE].entries:
        raise ReleaseError(f"{shown}: holds no file that may travel")
    # Sorted by path over all trees: "code/" before "workload/".
    entries = sorted(
        (entry for tree in trees.values() for entry in tree.entries), key=lambda entry: os.fsencode(entry.path)
    )
    digest = source_tree.fingerprint((entry, entry.sha256()) for entry in entries)
    releases = cache / "releases"
    there = (releases / digest).is_dir()
    if not there and not check:
        digest = _write(releases, entries)
    elif there:
        _verify(releases / digest)
    code = trees[CODE].entries if CODE in trees else []
    return Release(
        hash=digest,
        path=releases / digest,
        changed=not there,
        source=shown,
        commit=commit,
        files=len(entries),
        size_bytes=sum(entry.size for entry in entries),
        code_files=len(code),
        code_bytes=sum(entry.size for entry in code),
        left_out={f"{name}/{path}": rule for name, tree in trees.items() for path, rule in tree.left_out.items()},
    )


def _check_names(shown: str, code: source_tree.Tree, taken: Sequence[str]) -> None:
    """Refuse user code with a module of such a name: Python would import it instead of the project's package."""
    for name in taken:
        inside = (entry.path.removeprefix(f"{CODE}/") for entry in code.entries)
        if any(path == f"{name}.py" or path.startswith(f"{name}/") for path in inside):
            raise ReleaseError(
                f"{shown}: has a {name} of its own, a name that Jarfleet's package on the node has; rename it"
            )


def _write(releases: Path, entries: list[source_tree.Entry]) -> str:
    """Copy to a temporary folder and rename it.

    Return the hash of the copy, since a source file may have changed meanwhile.
    """
    releases.mkdir(parents=True, exist_ok=True)
    with locked(releases):
        made = Path(tempfile.mkdtemp(dir=releases, prefix=".staging."))
        try:
            contents = []
            for entry in entries:
                target = made / entry.path
                target.parent.mkdir(parents=True, exist_ok=True)
                contents.append(source_tree.copy(entry, target))
            for folder, _, _ in os.walk(made):
                Path(folder).chmod(0o755)  # independent of the umask
            digest = source_tree.fingerprint(zip(entries, contents, strict=True))
            if not (releases / digest).is_dir():
                made.rename(releases / digest)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return digest


def _verify(path: Path) -> None:
    """Raise ReleaseError if a staged release was modified: nodes would get something other than its hash states."""
    entries = sorted(
        (entry for name in PARTS if (path / name).is_dir()
         for entry in source_tree.read(path / name, name, ignores=False).entries),
        key=lambda entry: os.fsencode(entry.path),
    )  # fmt: skip
    if source_tree.fingerprint((entry, entry.sha256()) for entry in entries) != path.name:
        raise ReleaseError(f"{path}: was changed since it was staged; remove that folder and run again")
