"""A run's folder on the controller, `runs/<run_id>/`: what was run, where, and everything that happened to it.

    manifest.json   what was run, see `build_manifest`; manifest.json.sig: its signature, see `fleet.record.signing`
    plan.json       where: the plan as `placement` gave it
    events.jsonl    what happened, one event per line, see `contract.events`
    logs/  db/      what the instances left, one file each; `fleet.results.merge` makes experiments.db from db/

The folder is the record; what runs right now is always asked of the nodes.
"""

from __future__ import annotations

import difflib
import fcntl
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from contract import events
from contract.events import Event
from contract.names import RUN_ID
from fleet.base.errors import RunError
from fleet.base.files import locked, sync_folder, write_json

MANIFEST, SIGNATURE = "manifest.json", "manifest.json.sig"
PLAN, EVENTS = "plan.json", "events.jsonl"
RECOVERED = "recovered_from_nodes"  # of a manifest
LATEST = "latest"


def new_run_id(experiment: str, now: datetime | None = None) -> str:
    """Return a new id: experiment, UTC time, four random hex digits, e.g. `split_brain_20261123T141500Z_3f2a`.

    Characters that a systemd slice's name cannot contain become `_`. `now` must have a time zone (default: the current
    time). Raise RunError if nothing of the name is left.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", experiment, flags=re.ASCII).strip("_")[:80]
    if not name:
        raise RunError(f"experiment name {experiment!r}: no letter or digit to name a run with; rename the experiment")
    now = datetime.now(UTC) if now is None else now
    if now.tzinfo is None:
        raise RunError(f"time {now.isoformat()}: has no time zone; a run id is in UTC")
    return f"{name}_{now.astimezone(UTC):%Y%m%dT%H%M%SZ}_{secrets.token_hex(2)}"


class Recorded(NamedTuple):
    """An event of a run and its time (ISO 8601, UTC; "" if unreadable)."""

    time: str
    event: Event


class Run:
    """One run's folder. Every read goes to the disk, since another process may have written meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def run_id(self) -> str:
        """The run's id, which is the folder's name."""
        return self.path.name

    @classmethod
    def create(
        cls, runs_dir: str | os.PathLike[str], run_id: str, manifest: Mapping[str, Any], plan: Mapping[str, Any]
    ) -> Run:
        """Create the folder atomically. Add `run_id` and `created_at` to the manifest.

        Raise RunError for a bad id, a folder that exists, or a manifest or plan that is not JSON.
        """
        _check_id(run_id)
        folder = Path(runs_dir).expanduser().absolute()
        final = folder / run_id
        # Check first, because a rename would silently replace an *empty* folder of that name.
        if final.exists() or final.is_symlink():
            if not (final / MANIFEST).is_file():
                raise RunError(f"{final}: has no {MANIFEST}, so it is no record; move it away and run this again")
            raise RunError(f"{final}: this run exists already; a run's record is never overwritten, take a new run id")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(dir=folder, prefix=f".{run_id}."))
        except OSError as error:
            raise RunError(f"{folder}: cannot make a run's folder here: {error}; set runs_dir") from error
        try:
            made.chmod(0o755)
            (made / "logs").mkdir()
            (made / "db").mkdir()
            run = cls(made)
            _write(made / MANIFEST, {"created_at": _now(), **manifest, "run_id": run_id})
            _write(made / PLAN, plan)
            run.append(events.Created(run_id))
            made.rename(final)
        except OSError as error:
            raise RunError(f"{final}: cannot make the run's folder: {error}") from error
        finally:
            shutil.rmtree(made, ignore_errors=True)
        sync_folder(folder)
        return cls(final)

    @classmethod
    def open(cls, runs_dir: str | os.PathLike[str], run_id: str) -> Run:
        """Return the run of that id; `latest` is the newest. Raise RunError with similar run ids."""
        folder = Path(runs_dir).expanduser().absolute()
        runs = list_runs(folder)
        if run_id == LATEST:
            if not runs:
                raise RunError(f"{folder}: there are no runs yet; run_experiment.yml makes the first")
            return runs[0]
        for run in runs:
            if run.run_id == run_id:
                return run
        raise RunError(f"{folder}: no run {run_id!r}; {_near(run_id, [run.run_id for run in runs])}")

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest. Raises RunError if the file is missing or damaged."""
        return _read(self.path / MANIFEST)

    @property
    def is_recovered(self) -> bool:
        """Whether the record was made from what runs on nodes, without the controller's own."""
        return bool(self.manifest.get(RECOVERED))

    @property
    def plan(self) -> dict[str, Any]:
        """The plan that the run was launched with. Raises RunError if the file is missing or damaged."""
        return _read(self.path / PLAN)

    @property
    def places(self) -> dict[str, str]:
        """{instance: its node}: the one that it was sent to last. Raises RunError."""
        places = dict(self.plan.get("assignments", {}))
        for _, event in self.events():
            if isinstance(event, events.Resumed):
                places[event.instance] = event.node
        return places

    @property
    def epochs(self) -> dict[str, int]:
        """{instance: its epoch} of those that were resumed."""
        found: dict[str, int] = {}
        for _, event in self.events():
            if isinstance(event, events.Resumed):
                found[event.instance] = max(event.epoch, found.get(event.instance, 1))
        return found

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note, as long as it lasts, that this process watches the run on the nodes that it has now."""
        with (self.path / PLAN).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    @property
    def is_watched(self) -> bool:
        """Whether a process on this machine does."""
        with (self.path / PLAN).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def update_manifest(self, **changes: Any) -> dict[str, Any]:
        """Set top-level keys of the manifest (a value is replaced whole) and return it. Safe with concurrent writers.

        The signature is removed, since it belongs to the previous content.
        """
        with locked(self.path):
            manifest = {**self.manifest, **changes, "run_id": self.run_id}
            _write(self.path / MANIFEST, manifest)
            (self.path / SIGNATURE).unlink(missing_ok=True)
        return manifest

    def append(self, event: Event) -> None:
        """Append an event to events.jsonl with the current time. Safe with concurrent writers.

        Raise RunError if a field of it is not JSON.
        """
        path = self.path / EVENTS
        try:
            entry = events.to_json(event, _now())
            line = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"
        except (TypeError, ValueError) as error:
            raise RunError(f"{path}: event {event.kind!r} is not JSON: {error}") from error
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # a writer was killed within its line: do not append to that
            # One write call: with O_APPEND the kernel keeps the lines of several writers apart.
            if os.write(descriptor, line) != len(line):
                raise RunError(f"{path}: event {event.kind!r} was written only in part; is the disk full?")
        finally:
            os.close(descriptor)

    def events(self) -> list[Recorded]:
        """Return every event in order. An unreadable line becomes an `Unreadable`."""
        path = self.path / EVENTS
        found: list[Recorded] = []
        for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else [], start=1):
            if line.strip():
                found.append(Recorded(*events.from_json(_decoded(line), number, line.decode("utf-8", "replace"))))
        return found


def list_runs(runs_dir: str | os.PathLike[str]) -> list[Run]:
    """Return the runs in a folder, newest first; other entries are ignored. Empty if there is no such folder."""
    folder = Path(runs_dir).expanduser().absolute()
    if not folder.is_dir():
        return []
    found: list[tuple[str, int, str]] = []
    for entry in folder.iterdir():
        match = RUN_ID.fullmatch(entry.name)
        if match and (entry / MANIFEST).is_file():
            plan = entry / PLAN
            # plan.json is written once, at creation: its mtime orders runs of the same second.
            found.append((match[1], plan.stat().st_mtime_ns if plan.exists() else 0, entry.name))
    return [Run(folder / name) for _, _, name in sorted(found, reverse=True)]


def _check_id(run_id: str) -> None:
    if not RUN_ID.fullmatch(run_id):
        raise RunError(f"run id {run_id!r}: expected <experiment>_<UTC time>_<4 hex digits>, as new_run_id() makes it")


def _near(run_id: str, known: list[str]) -> str:
    if not known:
        return "there are no runs yet"
    close = [name for name in known if run_id and name.startswith(run_id)][:5]
    close = close or difflib.get_close_matches(run_id, known, n=3, cutoff=0.75)
    return f"did you mean {', '.join(close)}?" if close else f"the newest are {', '.join(known[:5])}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _write(path: Path, value: Mapping[str, Any]) -> None:
    try:
        write_json(path, value)
    except (TypeError, ValueError) as error:
        raise RunError(f"{path}: not JSON: {error}") from error
