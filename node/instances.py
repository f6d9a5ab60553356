"""What a node knows of its instances: read from its disk and its systemd each time, never remembered.

An instance's files are written by somebody's code: whatever is in them, the instance is reported with what can be known
and with what is wrong, and no other instance suffers for it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple, Type, TypeVar

from contract import ContractError, description, names, outcome, progress
from contract.collected import FILES, STATE, Copy
from contract.description import InstanceDescription
from contract.json_records import Record, shown
from contract.node_state import InstanceState
from contract.outcome import Outcome
from contract.progress import Progress
from contract.statuses import ALIVE, CRASHED, FAILED, PENDING, RUNNING, STOPPED

from . import exit_log, held_leases, shared_folder, systemd

R = TypeVar("R", bound=Record)


class _Files(NamedTuple):
    """An instance's files as far as they can be read, and what is wrong with them."""

    folder: Path
    run_id: str
    id: str
    description: Optional[InstanceDescription]
    outcome: Optional[Outcome]
    faults: List[str]

    @property
    def waits(self) -> bool:
        """Whether it may not run now, for want of a lease."""
        return self.description is not None and not self.outcome and not held_leases.holds(self.description)


def read_instances(work_dir: str, run_id: str = "") -> List[InstanceState]:
    """Every instance that this node holds (of one run, if named), as it is now, in the order of run and id."""
    root = Path(names.instances_folder(work_dir))
    runs = [root / run_id] if run_id else _folders(root)
    found = []
    for run in runs:
        for folder in _folders(run):
            files = _read_files(folder)
            if files:
                found.append(files)
    wanted = [
        names.unit_name(files.run_id, files.id, unit)
        for files in found
        if files.outcome is None
        for unit in names.UNITS
    ]
    units = systemd.show(wanted)
    return [_state(files, units) for files in found]


def status(ended: Optional[Outcome], workload: Mapping[str, str], waits: bool = False) -> str:
    """An instance's status from what it left on disk and what systemd says of its workload unit.

    waits: it does not run because it has no lease. The outcome on disk counts first: it survives a reboot, systemd's
    memory does not.
    """
    if ended:
        return ended.outcome
    state = workload.get("ActiveState", "inactive")
    if state == "activating":
        again = workload.get("SubState") == "auto-restart" or workload.get("NRestarts", "0") != "0"
        return CRASHED if again else PENDING
    if waits or (state in ("inactive", "failed") and workload.get("Job")):
        return PENDING
    if state == "inactive" and workload.get("InactiveEnterTimestamp") and not systemd.is_shutting_down():
        return STOPPED  # by a person with systemctl: it ran, and left no outcome
    by_state = {"active": RUNNING, "reloading": RUNNING, "deactivating": RUNNING, "failed": FAILED}
    return by_state.get(state, PENDING)


def status_of(folder: Path, workload: Mapping[str, str]) -> str:
    """The status of the instance in a folder, given what systemd says of its workload unit."""
    files = _read_files(folder)
    return status(files.outcome, workload, files.waits) if files else status(None, workload)


def read_outcome(folder: Path) -> Optional[Outcome]:
    """How the instance in this folder has ended; None while it has not, or does not say so in a readable way."""
    return _read(Outcome, folder / names.OUTCOME, outcome.LIMIT, [], shared_folder.owner(folder))


def read_description(folder: Path) -> InstanceDescription:
    """What the instance in this folder is. Raises ContractError, FileNotFoundError."""
    return InstanceDescription.from_file(folder / names.DESCRIPTION, description.LIMIT, shared_folder.owner(folder))


def read_patterns(folder: Path) -> Dict[Copy, Tuple[str, ...]]:
    """{the archive that comes home: the patterns of the files in it}; none where nothing says so."""
    found = _read(InstanceDescription, folder / names.DESCRIPTION, description.LIMIT, [], shared_folder.owner(folder))
    return {FILES: found.results, STATE: found.state} if found else {}


def is_observed(run_id: str, instance_id: str) -> bool:
    """Whether the instance's stream relay is there."""
    return bool(systemd.present(names.unit_name(run_id, instance_id, relay) for relay in names.RELAYS))


def _folders(path: Path) -> List[Path]:
    """The folders in one, by name; none where it is not there."""
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.is_symlink())
    except OSError:
        return []


def _read_files(folder: Path) -> Optional[_Files]:
    """The files of the instance in this folder; None where there is no instance (yet)."""
    run_id, instance_id = folder.parent.name, folder.name
    if not names.INSTANCE_ID.fullmatch(instance_id) or not (folder / names.DESCRIPTION).exists():
        return None
    faults: List[str] = []
    owner = shared_folder.owner(folder)
    found = _read(InstanceDescription, folder / names.DESCRIPTION, description.LIMIT, faults, owner)
    if found and (found.run_id, found.id) != (run_id, instance_id):
        faults.append(f"{names.DESCRIPTION}: names {shown(found.id)} of {shown(found.run_id)}, which is not its folder")
        found = None
    ended = _read(Outcome, folder / names.OUTCOME, outcome.LIMIT, faults, owner)
    return _Files(folder, run_id, instance_id, found, ended, faults)


def _read(kind: Type[R], path: Path, limit: int, faults: List[str], owner: Optional[int] = None) -> Optional[R]:
    """The record in a file (of this owner); None where there is none, or nonsense, which is added to the faults."""
    try:
        return kind.from_file(path, limit, owner)
    except FileNotFoundError:
        return None
    except ContractError as error:
        faults.append(str(error))
        return None


def _state(files: _Files, units: Mapping[str, Dict[str, str]]) -> InstanceState:
    workload = units.get(names.unit_name(files.run_id, files.id, names.WORKLOAD), {})
    exits = exit_log.exits(files.folder)
    faults = [*files.faults, *exits.faults]
    found = InstanceState(
        run_id=files.run_id,
        id=files.id,
        status=status(files.outcome, workload, files.waits),
        dir=str(files.folder),
        ended=files.outcome.time if files.outcome else "",
        observed=is_observed(files.run_id, files.id),
        deaths={unit: exits.deaths(unit) for unit in names.UNITS},
        progress=_read(Progress, files.folder / names.PROGRESS, progress.LIMIT, faults) or Progress(),
        faults=tuple(faults),
    )
    if files.description is None:
        return found
    resources, ports = files.description.resources, files.description.ports
    held = tuple(ports.values()) if found.status in ALIVE else (files.description.port,) if found.observed else ()
    return replace(
        found,
        experiment=files.description.experiment,
        epoch=files.description.epoch,
        leased=files.description.leased,
        lease_seconds=held_leases.seconds_left(files.description),
        ram_gb=resources.ram_gb,
        takes_ram_gb=resources.takes_ram_gb,
        gpu_memory_gb=resources.gpu_memory_gb,
        uses_gpu=resources.uses_gpu,
        ports=ports,
        held_ports=held,
    )
