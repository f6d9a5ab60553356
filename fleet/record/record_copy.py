"""The copy of a run's record that a node keeps (`failover.checkpoint_store`): what the run needs to go on, no results.

Whoever has not the record itself, because its controller is lost, resumes the run from this.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from contract.collected import MIB
from contract.events import Checkpointed
from contract.names import INSTANCE_ID
from fleet.base.errors import RunError
from fleet.base.files import sync_folder
from fleet.record import checkpoints
from fleet.record.run_folder import EVENTS, MANIFEST, PLAN, SIGNATURE, Run

# What is brought back of it, and of what size at most.
STATED = {MANIFEST: 64 * MIB, SIGNATURE: MIB, PLAN: 64 * MIB, EVENTS: 256 * MIB}

# Brings these files {path in the copy: bytes at most} into a folder, those that there are.
Get = Callable[[Mapping[str, int], Path], object]


@contextmanager
def laid_out(run: Run) -> Iterator[Path]:
    """Give a folder with the content of the copy, in links. Raise RunError, CheckpointError, OSError."""
    with tempfile.TemporaryDirectory(prefix=f".{run.run_id}.copy.", dir=run.path.parent) as made:
        for name in (*STATED, *_newest_checkpoints(run)):
            source, target = run.path / name, Path(made) / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.hardlink_to(source)
        yield Path(made)


def _newest_checkpoints(run: Run) -> Iterator[str]:
    """Yield the name of each file of the newest checkpoint of each instance."""
    for id in run.plan.get("assignments", {}):
        if kept := checkpoints.newest(run, id):
            yield from (f"{checkpoints.FOLDER}/{kept.checkpoint}/{id}{part}" for part in checkpoints.PARTS)


def is_needed(runs_dir: Path, run_id: str) -> bool:
    """Whether there is no record of a run here, or only one that was made from what runs on nodes."""
    here = Run(runs_dir / run_id)
    return not (here.path / MANIFEST).is_file() or here.is_recovered


def bring_back(runs_dir: Path, run_id: str, get: Get) -> bool:
    """Make the record from its copy, in place of one made from what runs on nodes. Return whether there is a copy.

    Raise RunError where the copy is no record of this run, OSError, and what `get` raises.
    """
    runs_dir.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{run_id}.", dir=runs_dir))
    try:
        get(STATED, made)
        if not (made / MANIFEST).is_file():
            return False
        run, final = Run(made), runs_dir / run_id
        if run.manifest.get("run_id") != run_id:
            raise RunError(f"{run_id}: what is kept of it is the record of {run.manifest.get('run_id')!r}")
        if files := _checkpointed(run):
            get(files, made)
        for folder in (final, final / "logs", final / "db"):
            folder.mkdir(exist_ok=True)
        # The manifest comes last: a folder without one is no record.
        for path in sorted(made.rglob("*"), key=lambda path: path.name == MANIFEST):
            if path.is_file():
                target = final / path.relative_to(made)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    sync_folder(final)
    return True


def _checkpointed(run: Run) -> dict[str, int]:
    """Return each file that a checkpoint of the run may have, with its limit. The copy has those of the newest."""
    told = [event for _, event in run.events() if isinstance(event, Checkpointed)]
    return {
        f"{checkpoints.FOLDER}/{one.checkpoint}/{id}{part}": limit
        for one in told
        if checkpoints.NAME.fullmatch(one.checkpoint)
        for id in one.instances
        if INSTANCE_ID.fullmatch(id)
        for part, limit in checkpoints.PARTS.items()
    }
