"""Which nodes a person has taken out of service: a word for each, kept on the controller, which no check overrules.

One file a cluster, `~/.local/state/jarfleet/nodes/<cluster_name>.json`. `node_maintenance: true` in an inventory says
the same as MAINTENANCE, for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contract.json_records import Record
from fleet.base.files import locked, write_json
from fleet.base.state_folder import as_file_name, state_folder

MAINTENANCE, DRAINED = "maintenance", "drained"  # nothing new goes there; and what may move is moved away
LIMIT = 2**20  # bytes


@dataclass(frozen=True)
class Words(Record):
    """{node: the word for it} of those that are out of service."""

    nodes: Mapping[str, str] = field(default_factory=dict)


def read(cluster: str) -> Mapping[str, str]:
    """Return {node: its word}. Raise ContractError."""
    try:
        return Words.from_file(_file(cluster), LIMIT).nodes
    except FileNotFoundError:
        return {}


def write(cluster: str, node: str, word: str, *, check: bool = False) -> bool:
    """Put a node out of service; an empty word puts it back. Return whether that changes anything."""
    path = _file(cluster)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(path.with_suffix(".lock")):
        before = read(cluster)
        after = {name: one for name, one in {**before, node: word}.items() if one}
        if after != before and not check:
            write_json(path, Words(after).to_json(), mode=0o600)
    return after != before


def _file(cluster: str) -> Path:
    return state_folder("nodes") / f"{as_file_name(cluster)}.json"
