"""The keys of a run's instances on the controller: made at its launch, its user's alone, and in no record.

One file a run, `~/.local/state/jarfleet/keys/<run_id>.json` (or below $XDG_STATE_HOME), removed when the run is over.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contract.credentials import InstanceCredentials, UnitCredentials
from contract.description import InstanceDescription
from contract.json_records import ContractError, Record
from contract.names import RUN_ID
from fleet.base.errors import RunError
from fleet.base.files import write_json
from fleet.base.state_folder import state_folder

KEY_BYTES = 32
LIMIT = 64 * 2**20  # bytes


@dataclass(frozen=True)
class RunKeys(Record):
    """{instance: its keys}."""

    instances: Mapping[str, InstanceCredentials] = field(default_factory=dict)


def make(run_id: str, instances: Iterable[InstanceDescription]) -> RunKeys:
    """Make and keep a key for each pair of instances that know each other, and of a subject and its observer."""
    pairs: dict[frozenset[str], str] = defaultdict(lambda: secrets.token_hex(KEY_BYTES))
    workloads: dict[str, dict[str, str]] = defaultdict(dict)
    relays: dict[str, dict[str, str]] = defaultdict(dict)
    for instance in instances:
        for peer in instance.peers:
            workloads[instance.id][peer] = pairs[frozenset((instance.id, peer))]
        for subject in instance.observes:
            key = secrets.token_hex(KEY_BYTES)
            workloads[instance.id][subject] = relays[subject][instance.id] = key
    ids = {*workloads, *relays}
    made = RunKeys({id: InstanceCredentials(UnitCredentials(workloads[id]), UnitCredentials(relays[id])) for id in ids})
    path = _file(run_id)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(path, made.to_json(), mode=0o600)
    return made


def of(run_id: str, instance_id: str) -> InstanceCredentials:
    """Return the keys of an instance of a run that was launched here. Raise RunError."""
    path = _file(run_id)
    try:
        keys = RunKeys.from_file(path, LIMIT)
    except (FileNotFoundError, ContractError) as error:
        raise RunError(f"{path}: the keys of {run_id} cannot be read ({error}); launch it again") from error
    return keys.instances.get(instance_id, InstanceCredentials())


def has(run_id: str) -> bool:
    """Whether the keys of a run are here."""
    return _file(run_id).is_file()


def remove(run_id: str) -> None:
    """Forget the keys of a run that is over."""
    _file(run_id).unlink(missing_ok=True)


def _file(run_id: str) -> Path:
    if not RUN_ID.fullmatch(run_id):
        raise RunError(f"{run_id!r}: not a run id")
    return state_folder("keys") / f"{run_id}.json"
