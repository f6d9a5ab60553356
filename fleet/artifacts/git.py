"""Run git safely: no prompts, no commands named by a repository's configuration, no ref read as an option."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from fleet.base.addresses import redacted
from fleet.base.errors import ReleaseError
from fleet.base.files import locked

URL = re.compile(r"(https|ssh|file|git)://.+|[\w.-]+@[\w.-]+:.+")
# A credential helper (gitcredentials(7)) that answers from the environment of git itself.
ANSWER = r'printf "username=%s\npassword=%s\n" "$JARFLEET_GIT_USER" "$JARFLEET_GIT_PASSWORD"'
HELPER = f'!f() {{ test "$1" = get && {ANSWER}; }}; f'
TIMEOUT = 900  # seconds for one git command: enough for a clone over a slow line
# Git sets these inside its hooks; they point to another repository than the one that we run git on.
FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
           "GIT_NAMESPACE", "GIT_PREFIX", "GIT_COMMON_DIR")  # fmt: skip


def is_url(source: str) -> bool:
    """Whether `source` is a repository's address rather than a folder."""
    return URL.fullmatch(source) is not None


def listed_files(folder: Path) -> list[str] | None:
    """Return the files in `folder` that are tracked, or untracked and not ignored; None outside a git work tree."""
    inside = _run(["rev-parse", "--is-inside-work-tree"], folder, check=False)
    if inside.returncode != 0:
        if (folder / ".git").exists():  # e.g. another user's: without git, files that .gitignore excludes would be sent
            raise ReleaseError(f"{folder}: git cannot read it: {_said(inside)}")
        return None
    if inside.stdout.strip() != b"true":
        return None
    names = _run(["ls-files", "-z", "--cached", "--others", "--exclude-standard"], folder).stdout.split(b"\0")
    found = sorted({os.fsdecode(name) for name in names if name})
    # No files: the surrounding repository ignores the whole folder, but the user asked for it explicitly.
    return found if found or (folder / ".git").exists() else None


def ignored_files(folder: Path) -> dict[str, str]:
    """Return {file or folder in `folder` that git ignores: the rule}; {} outside a git work tree."""
    if _run(["rev-parse", "--is-inside-work-tree"], folder, check=False).stdout.strip() != b"true":
        return {}
    listed = _run(["ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"], folder).stdout
    if not listed:
        return {}
    # NUL between file of rules, line, pattern and path of each.
    told = _run(["check-ignore", "-z", "--verbose", "--stdin"], folder, check=False, stdin=listed).stdout
    fields = [os.fsdecode(part) for part in told.split(b"\0")[:-1]]
    return {fields[at + 3]: f"{fields[at]}: {fields[at + 2]}" for at in range(0, len(fields), 4)}


def export(url: str, ref: str | None, target: Path, cache: Path | None) -> str:
    """Write the tree of `ref` (a branch, tag or commit; default: the remote's HEAD) to the folder `target`.

    Keep a bare mirror in `cache` (None: use a temporary one). Return the commit. Raise ReleaseError on failure.
    """
    if ref is not None and (not ref or ref.startswith("-") or re.search(r"[\s\0~^:?*\[\\]", ref)):
        raise ReleaseError(f"ref {ref!r}: not the name of a branch, tag or commit")
    remote = Remote.of(url)
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="jarfleet.git.") as scratch:
            return _export(remote, ref, target, Path(scratch) / "mirror")
    cache.mkdir(parents=True, exist_ok=True)
    mirror = cache / hashlib.sha256(remote.url.encode()).hexdigest()
    with locked(cache / f"{mirror.name}.lock"):
        return _export(remote, ref, target, mirror)


@dataclass(frozen=True)
class Remote:
    """A repository's address without user and password, and those as variables of git's environment.

    In the address they would be in git's arguments, for every user of this machine to see, and in the mirror's files.
    """

    url: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, url: str) -> Remote:
        """Split an address. Raise ReleaseError if its user or password cannot be handed to git."""
        parts = urlsplit(url)
        if parts.scheme != "https" or "@" not in parts.netloc:
            return cls(url)
        user, password = (unquote(part or "") for part in (parts.username, parts.password))
        if not (user + password).isprintable():
            raise ReleaseError(f"{redacted(url)}: its user or password has a control character")
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        helper = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "credential.helper", "GIT_CONFIG_VALUE_0": HELPER}
        return cls(bare, {**helper, "JARFLEET_GIT_USER": user, "JARFLEET_GIT_PASSWORD": password})


def _export(remote: Remote, ref: str | None, target: Path, mirror: Path) -> str:
    commit = _commit(mirror, ref) if ref and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", ref) else None
    if commit is None:  # a full commit hash never changes; anything else must be looked up at the remote
        _update(remote, mirror)
        commit = _commit(mirror, _remote_head(remote) if ref is None else ref)
    if commit is None:
        branches = _run(["for-each-ref", "--format=%(refname:short)", "--count=10", "refs/heads"], mirror).stdout
        known = ", ".join(branches.decode(errors="replace").split())
        raise ReleaseError(f"{redacted(remote.url)}: no branch, tag or commit {ref!r}; it has the branches {known}")
    _write_tree(redacted(remote.url), mirror, commit, target)
    return commit


def _update(remote: Remote, mirror: Path) -> None:
    if mirror.is_dir():
        _run(["fetch", "--quiet", "--prune", "--", "origin"], mirror, environment=remote.environment)
        return
    made = Path(tempfile.mkdtemp(dir=mirror.parent, prefix=".clone."))
    try:
        _run(
            ["clone", "--quiet", "--mirror", "--", remote.url, str(made / "mirror")],
            made,
            environment=remote.environment,
        )
        (made / "mirror").rename(mirror)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _remote_head(remote: Remote) -> str:
    line = _run(["ls-remote", "--", remote.url, "HEAD"], Path("/"), environment=remote.environment).stdout.split()
    if not line:
        raise ReleaseError(f"{redacted(remote.url)}: has no default branch; name a ref")
    return line[0].decode()


def _commit(mirror: Path, ref: str) -> str | None:
    if not mirror.is_dir():
        return None
    for name in (f"refs/heads/{ref}", f"refs/tags/{ref}", ref):  # branches first, as `git clone --branch` does
        found = _run(
            ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"], mirror, check=False
        )
        if found.returncode == 0:
            return found.stdout.decode().strip()
    return None


def _write_tree(shown: str, mirror: Path, commit: str, target: Path) -> None:
    # Read blob by blob, not by checkout or archive: those apply filters and attributes, which differ between machines.
    listing = _run(["ls-tree", "-r", "-z", "--full-tree", commit], mirror).stdout.split(b"\0")
    blobs: list[tuple[bytes, bytes, bytes]] = []
    for line in filter(None, listing):
        meta, name = line.split(b"\t", 1)
        mode, kind, sha = meta.split()
        if kind == b"commit":
            raise ReleaseError(
                f"{shown}: {os.fsdecode(name)} is a submodule, which is not fetched; "
                "name a folder in which it is checked out"
            )
        if b".." in name.split(b"/") or name.startswith(b"/"):
            raise ReleaseError(f"{shown}: a path that leads out of the tree: {os.fsdecode(name)}")
        blobs.append((mode, sha, name))
    command = ["git", "cat-file", "--batch"]
    with tempfile.TemporaryFile() as wanted:
        wanted.write(b"".join(sha + b"\n" for _, sha, _ in blobs))
        wanted.seek(0)
        with subprocess.Popen(command, cwd=mirror, env=_env(), stdin=wanted, stdout=subprocess.PIPE) as process:  # noqa: S603 - a list, no shell
            assert process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
            # Links last, so that no file is written through a link that the tree itself contains.
            links: list[tuple[Path, bytes]] = []
            for mode, _, name in blobs:
                size = int(process.stdout.readline().split()[2])
                content = process.stdout.read(size)
                process.stdout.read(1)
                path = target / os.fsdecode(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                if mode == b"120000":
                    links.append((path, content))
                else:
                    path.write_bytes(content)
                    path.chmod(0o755 if mode == b"100755" else 0o644)
            for path, content in links:
                path.symlink_to(os.fsdecode(content))
    if process.returncode != 0:
        raise ReleaseError(f"{shown}: git cat-file exited with {process.returncode}; remove {mirror} and run again")


def _run(
    arguments: list[str],
    folder: Path,
    *,
    check: bool = True,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    # fsmonitor and hooks are commands that a repository may name; do not run them.
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - a list, no shell
            command,
            cwd=folder,
            env={**_env(), **(environment or {})},
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except FileNotFoundError as error:
        raise ReleaseError("git is not installed on this machine; install the package git") from error
    except subprocess.TimeoutExpired as error:
        raise ReleaseError(f"git {arguments[0]}: no answer within {TIMEOUT} s") from error
    if check and done.returncode != 0:
        raise ReleaseError(f"git {arguments[0]} failed: {_said(done)}")
    return done


def _env() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    ssh = kept.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")  # no prompt, since nobody watches the terminal
    return {
        **kept,
        "GIT_SSH_COMMAND": ssh,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:ssh:file:git",
        "LC_ALL": "C",
    }


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    text = redacted(done.stderr.decode(errors="replace").strip())
    return "; ".join(text.splitlines()[-3:]) or f"exit code {done.returncode}"
