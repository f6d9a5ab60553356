"""The checkpoints of a run, in its folder: `checkpoints/<name>/<instance>.db`, `.exits.jsonl`, `.tar` and `.json`.

A checkpoint is what was brought home of each instance at one time, so taking one is a collection and then keeping its
files. A fetched file is replaced and never written to, so keeping it is a link and takes no room. An instance's newest
one may also have the slot of its llama-server, `.bin`: without it the instance goes on all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from contract import ContractError
from contract.collected import COPIES, DATABASE, EXIT_LOG, SLOT, STATE
from contract.events import Checkpointed, Resumed, SlotRestored
from contract.json_records import Record
from contract.names import split_host_name
from fleet.base.errors import CheckpointError
from fleet.base.files import file_sha256, write_json
from fleet.record.run_folder import Recorded, Run

FOLDER = "checkpoints"
NAME = re.compile(r"\d{8}T\d{9}Z", re.ASCII)  # UTC, to the millisecond
LIMIT = 65536  # bytes of a description
DESCRIBED, DB, EXITS, FILES, LLAMA_SLOT = ".json", ".db", ".exits.jsonl", ".tar", ".bin"
# How the files of an instance in a checkpoint end, and of what size each is at most.
PARTS = {
    DESCRIBED: LIMIT,
    DB: DATABASE.limit,
    EXITS: EXIT_LOG.limit,
    FILES: STATE.limit,
    LLAMA_SLOT: SLOT.limit,
}


@dataclass(frozen=True)
class Home:
    """What is known of an instance whose files came home just now, to the folder of its run.

    settings: the arguments of its llama-server that decide the form of a slot. slot: one came home too.
    """

    epoch: int
    status: str
    node: str = ""
    settings: tuple[str, ...] = ()
    slot: bool = False


@dataclass(frozen=True)
class Kept(Record):
    """One instance in a checkpoint. database, exits, state, slot: the sha256 of each file, empty without one."""

    checkpoint: str
    instance: str
    epoch: int
    status: str
    database: str = ""
    exits: str = ""
    state: str = ""
    model: str = ""  # the sha256 that it was launched with
    release: str = ""
    slot: str = ""
    build: str = ""  # the key of the llama.cpp that its llama-server was of
    settings: tuple[str, ...] = ()

    @property
    def hashes(self) -> tuple[str, str, str]:
        """Of the files that it needs to go on."""
        return self.database, self.exits, self.state

    def is_like(self, before: Kept) -> bool:
        """Whether an earlier checkpoint has all that this one has."""
        same = self.epoch == before.epoch and self.hashes == before.hashes
        return same and bool(before.slot or not self.slot)


@dataclass(frozen=True)
class Taken:
    """The newest checkpoint of each instance, and whether any was made just now."""

    kept: Mapping[str, Kept]
    changed: bool


def take(run: Run, instances: Mapping[str, Home]) -> Taken:
    """Keep what was brought home of these instances. Raise OSError.

    Of one that has nothing new since its last checkpoint no other is made.
    """
    manifest, name = run.manifest, f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"[:18] + "Z"
    kept: dict[str, Kept] = {}
    made: dict[str, int] = {}
    for id, came in instances.items():
        home, slot = [run.path / copy.name(id) for copy in (DATABASE, EXIT_LOG, STATE)], run.path / SLOT.name(id)
        one = Kept(
            checkpoint=name,
            instance=id,
            epoch=came.epoch,
            status=came.status,
            database=_sha256(home[0]),
            exits=_sha256(home[1]),
            state=_sha256(home[2]),
            model=str((manifest.get("models") or {}).get(id, {}).get("sha256", "")),
            release=str((manifest.get("code") or {}).get("hash", "")),
            slot=_sha256(slot) if came.slot else "",
            build=str((manifest.get("llama_cpp") or {}).get(came.node, "")),
            settings=came.settings,
        )
        before = newest(run, id)
        if before and (one.is_like(before) or not any(one.hashes)):
            kept[id] = before
            slot.unlink(missing_ok=True)
            continue
        folder = run.path / FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in zip(home, files(run, one), strict=True):
            if source.is_file():
                target.hardlink_to(source)
        _drop_slots(run, id)  # they are large, and an older one would seldom be of use
        if one.slot:
            slot.replace(slot_file(run, one))
        write_json(folder / f"{id}{DESCRIBED}", one.to_json())  # the last: what it describes is there
        kept[id], made[id] = one, came.epoch
    if made:
        run.append(Checkpointed(name, made))
    return Taken(kept, bool(made))


def names(run: Run) -> list[str]:
    """Return the names of the run's checkpoints, oldest first."""
    return sorted({path.parent.name for path in (run.path / FOLDER).glob(f"*/*{DESCRIBED}")})


def newest(run: Run, id: str, until: str = "") -> Kept | None:
    """Return an instance's newest checkpoint, none after `until` if that is given; None where there is none.

    Raise CheckpointError if it cannot be read.
    """
    for name in reversed(names(run)):
        path = run.path / FOLDER / name / f"{id}{DESCRIBED}"
        if (not until or name <= until) and path.is_file():
            try:
                return Kept.from_file(path, LIMIT)
            except ContractError as error:
                raise CheckpointError(f"{path}: {error}; remove it, or resume from another: -e from=<name>") from error
    return None


def named(run: Run, id: str, name: str) -> Kept | None:
    """Return an instance's part of a checkpoint that it has; None for no name. Raise CheckpointError."""
    return newest(run, id, name) if name else None


def files(run: Run, kept: Kept) -> tuple[Path, Path, Path]:
    """Return where a checkpoint's database, exit log and archive of files are."""
    folder = run.path / FOLDER / kept.checkpoint
    database, exits, state = (folder / f"{kept.instance}{part}" for part in (DB, EXITS, FILES))
    return database, exits, state


def slot_file(run: Run, kept: Kept) -> Path:
    """Return where a checkpoint's slot is, if it has one."""
    return run.path / FOLDER / kept.checkpoint / f"{kept.instance}{LLAMA_SLOT}"


def slot_problem(run: Run, kept: Kept, build: str, settings: tuple[str, ...]) -> str:
    """Return why a llama-server of this build and settings cannot have a checkpoint's slot; empty if it can."""
    if not kept.slot:
        return "its checkpoint has no slot"
    if kept.build != build:
        return f"its slot is of llama.cpp {kept.build[:12]}, and it is started with {build[:12] or 'one not known'}"
    if kept.settings != settings:
        return f"its slot is of a llama-server with other settings: {' '.join(kept.settings) or 'none'}"
    if _sha256(slot_file(run, kept)) != kept.slot:
        return "the slot of its checkpoint is not kept any more, or damaged"
    return ""


def problems(run: Run, kept: Kept) -> list[str]:
    """Return why an instance cannot be resumed from a checkpoint; empty if it can."""
    manifest = run.manifest
    wanted = {
        "model": (kept.model, str(manifest["models"][kept.instance]["sha256"])),
        "code": (kept.release, str(manifest["code"]["hash"])),
    }
    found = [
        f"{kept.instance}: checkpoint {kept.checkpoint} is of another {what}: {had[:12]}, the run has {has[:12]}"
        for what, (had, has) in wanted.items()
        if had != has
    ]
    for path, sha256 in zip(files(run, kept), kept.hashes, strict=True):
        if sha256 and _sha256(path) != sha256:
            found.append(f"{kept.instance}: {path} is damaged or missing; resume from another: -e from=<name>")
    return found


def put_aside(run: Run, id: str, epoch: int) -> None:
    """Keep what was brought home of an epoch under names of its own, such as `db/a.e1.db`. Raise OSError."""
    for copy in COPIES:
        source = run.path / copy.name(id)
        if source.is_file():
            source.replace(run.path / copy.name(f"{id}.e{epoch}"))


def keep_earlier(run: Run, id: str, epoch: int, folder: Path) -> list[str]:
    """Take what was brought into a folder of an earlier epoch into the record, as `put_aside` names it.

    Return the names. A file that is the same as the one there is left out. Raise OSError.
    """
    kept = []
    for copy in COPIES:
        source, name = folder / copy.name(id), copy.name(f"{id}.e{epoch}")
        target = run.path / name
        if source.is_file() and _sha256(source) != _sha256(target):
            target.parent.mkdir(exist_ok=True)
            source.replace(target)
            kept.append(name)
    return kept


def goes_on(events: Iterable[Recorded]) -> dict[tuple[str, int], str]:
    """Return {(instance, epoch): whether it went on token for token, or why from the transcript}."""
    found: dict[tuple[str, int], str] = {}
    epochs: dict[str, int] = {}
    for _, event in events:
        match event:
            case Resumed(instance=id):
                epochs[id] = event.epoch
                if event.without_slot:
                    found[id, event.epoch] = f"from the transcript: {event.without_slot}"
            case SlotRestored(instance=name):
                id, _ = split_host_name(name)
                found[id, epochs.get(id, 1)] = event.came.words
    return found


def _drop_slots(run: Run, id: str) -> None:
    for path in (run.path / FOLDER).glob(f"*/{id}.bin"):
        path.unlink()


def _sha256(path: Path) -> str:
    return file_sha256(path) if path.is_file() else ""
