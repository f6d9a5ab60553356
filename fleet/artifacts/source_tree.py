"""A folder that is sent as code: which of its files are sent, how they are hashed, and how they are copied."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet.artifacts import git
from fleet.base.errors import ReleaseError
from fleet.base.files import CHUNK, file_sha256

MAX_BYTES = 10**9
MAX_FILES = 100_000

NEVER_SENT = "never sent"
# Never sent to a node, tracked by git or not. Matched against every part of a path, ignoring case.
NEVER = (
    *(".git", ".hg", ".svn", "__pycache__", "*.pyc", ".venv", "venv", "node_modules"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".ds_store"),
    *(".env*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.kdbx", "*.ppk"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "secrets*", ".secrets*", "credentials.json"),
    *(".ssh", ".aws", ".azure", ".gnupg", ".kube", ".docker", ".netrc", ".pgpass", ".pypirc", ".npmrc", ".htpasswd"),
    *("kubeconfig*", "token", "*.token", "*.asc", "*.gpg"),
    *(".git-credentials", "*vault_pass*", "*vault-pass*", "*vaultpass*"),
)


@dataclass(frozen=True)
class Entry:
    """One file (kind `-`, executable `x`) or symbolic link (`l`). `path` is relative, as in the release."""

    path: str
    kind: str
    source: Path
    size: int

    def sha256(self) -> str:
        """Return the sha256 of the bytes, or of the link's target."""
        if self.kind == "l":
            return hashlib.sha256(os.fsencode(self.source.readlink())).hexdigest()
        return file_sha256(self.source)


@dataclass
class Tree:
    """The files of a folder that are sent. left_out: {path: the rule} of those that are not, and of whole folders."""

    entries: list[Entry] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def read(root: Path, prefix: str, *, ignores: bool = True, never: Sequence[str] = NEVER) -> Tree:
    """Return the tree under `root`, its paths led by `prefix`. With `ignores`, apply .gitignore in a git work tree.

    never: patterns of what is left out in any case.
    Raise ReleaseError for a missing folder, a link that leads out of it, or more than MAX_FILES / MAX_BYTES.
    """
    if not root.is_dir():
        raise ReleaseError(f"{root}: no such folder")
    root = root.resolve()
    tree = Tree()
    left_out: dict[str, str] = {}
    real: set[Path] = set()
    sizes: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for relative in _walk(root, ignores, left_out, never):
        source = root / relative
        try:
            status = source.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue  # git still lists files that were deleted but not committed
        # Skip files whose tracked folder was replaced by a link to another place.
        if source.parent not in real and source.parent.resolve() != source.parent:
            continue
        real.add(source.parent)
        kind = _kind(status.st_mode)
        if not kind:
            left_out[relative] = "neither a file nor a link"
            continue
        if kind == "l":
            _check_link(root, source)
        tree.entries.append(Entry(f"{prefix}/{relative}", kind, source, status.st_size))
        top = relative.split("/", 1)[0] + ("/" if "/" in relative else "")
        sizes[top] += status.st_size
        files[top] += 1
    _check_bounds(root, sizes, files)
    tree.entries.sort(key=lambda entry: os.fsencode(entry.path))
    tree.left_out = dict(sorted(left_out.items()))
    return tree


def ignored(root: Path, tree: Tree) -> dict[str, str]:
    """Return {file or folder that .gitignore keeps from being sent: the rule}, with paths below `root`."""
    sent = {
        "/".join(parts[1:end]) for entry in tree.entries for parts in [entry.path.split("/")] for end in range(2, 99)
    }
    found = {path.rstrip("/"): rule for path, rule in git.ignored_files(root).items()}
    return {path: rule for path, rule in found.items() if path not in sent and not _banned(path)}


def fingerprint(entries: Iterable[tuple[Entry, str]]) -> str:
    """Return 20 hex digits of the sha256 over (kind, path, content sha256) of every entry, in the given order."""
    digest = hashlib.sha256()
    for entry, content in entries:
        # A path has no NUL and both other fields have a fixed length, so no two trees give the same byte stream.
        digest.update(b"%s\0%s\0%s\n" % (entry.kind.encode(), os.fsencode(entry.path), content.encode()))
    return digest.hexdigest()[:20]


def copy(entry: Entry, target: Path) -> str:
    """Copy one entry to `target` with a normal mode, and return the sha256 of what was copied."""
    if entry.kind == "l":
        link = entry.source.readlink()
        target.symlink_to(link)
        return hashlib.sha256(os.fsencode(link)).hexdigest()
    digest = hashlib.sha256()
    with entry.source.open("rb") as source, target.open("xb") as file:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
        os.fchmod(file.fileno(), 0o755 if entry.kind == "x" else 0o644)
    # Derive the time from the content: rsync compares size and time, so it finds exactly the unchanged files in the
    # previous release and can hard-link them (--link-dest). The time is always in the past: 1970 to 2004.
    moment = int(digest.hexdigest()[:8], 16) >> 2
    os.utime(target, (moment, moment))
    return digest.hexdigest()


def _walk(root: Path, ignores: bool, left_out: dict[str, str], never: Sequence[str]) -> Iterator[str]:
    """Yield the relative paths of files and links, in no particular order; add what `never` matches to `left_out`."""
    listed = git.listed_files(root) if ignores else None
    if listed is None:
        yield from _walk_folder(root, "", left_out, never)
        return
    for relative in listed:
        banned = _banned(relative, never)
        if banned:
            left_out[banned] = NEVER_SENT
        elif (root / relative).is_dir() and not (root / relative).is_symlink():
            # A submodule, or a repository within this one: it has its own ignore rules.
            if not (root / relative / ".git").exists():
                raise ReleaseError(f"{root / relative}: a submodule that is not there; git submodule update --init")
            inner: dict[str, str] = {}
            base = relative.rstrip("/")
            for path in _walk(root / base, ignores, inner, never):
                yield f"{base}/{path}"
            left_out.update({f"{base}/{path}": rule for path, rule in inner.items()})
        else:
            yield relative


def _walk_folder(root: Path, base: str, left_out: dict[str, str], never: Sequence[str]) -> Iterator[str]:
    with os.scandir(root / base) as entries:
        for entry in entries:
            relative = f"{base}{entry.name}"
            if _banned(entry.name, never):
                left_out[relative] = NEVER_SENT
            elif entry.is_dir(follow_symlinks=False):
                yield from _walk_folder(root, f"{relative}/", left_out, never)
            else:
                yield relative


def _banned(relative: str, never: Sequence[str] = NEVER) -> str:
    """Return the path up to the first part that `never` matches, or ""."""
    parts = relative.rstrip("/").split("/")
    for index, part in enumerate(parts):
        if any(fnmatch.fnmatchcase(part.lower(), pattern) for pattern in never):
            return "/".join(parts[: index + 1])
    return ""


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "l"
    if stat.S_ISREG(mode):
        return "x" if mode & stat.S_IXUSR else "-"
    return ""


def _check_link(root: Path, link: Path) -> None:
    target = link.readlink()
    # Check both the link's text, which is what a node sees, and its target here, through other links.
    lexical = Path(os.path.normpath(link.parent / target))
    try:
        real = link.resolve()
    except (OSError, RuntimeError) as error:
        raise ReleaseError(f"{link}: a link that leads nowhere: {error}; remove it") from error
    if target.is_absolute() or not lexical.is_relative_to(root) or not real.is_relative_to(root):
        raise ReleaseError(
            f"{link}: links to {target}, which is outside {root} or absolute and so missing on a node; "
            "copy the file in, use a relative link, or have .gitignore name it"
        )


def _check_bounds(root: Path, sizes: Counter[str], files: Counter[str]) -> None:
    if sizes.total() > MAX_BYTES:
        big = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sizes.most_common(5))
        raise ReleaseError(
            f"{root}: {sizes.total() / 1e9:.1f} GB, more than the {MAX_BYTES / 1e9:g} GB that may travel as code. "
            f"Biggest: {big}. Have .gitignore name what is data; models go under `model:`"
        )
    if files.total() > MAX_FILES:
        many = ", ".join(f"{name} {count}" for name, count in files.most_common(5))
        raise ReleaseError(
            f"{root}: {files.total()} files, more than the {MAX_FILES} that may travel as code. "
            f"Most in: {many}. Have .gitignore name what is data"
        )
