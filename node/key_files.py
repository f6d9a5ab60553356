"""The keys of instances on this node: root's files, which systemd opens for the units that they belong to."""

from __future__ import annotations

import json
from pathlib import Path

from contract import names
from contract.launch_spec import LaunchSpec
from contract.peer_keys import InstanceKeys

from . import shared_folder


def write(spec: LaunchSpec, keys: InstanceKeys) -> None:
    """Write the keys of an instance that is about to start. Raises OSError."""
    folder = Path(names.KEYS_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if spec.has_peers:
        _write(names.peer_keys_file(spec.run_id, spec.id, names.WORKLOAD), keys.workload.to_json())
    if spec.relay:
        _write(names.peer_keys_file(spec.run_id, spec.id, names.RELAY), keys.relay.to_json())


def remove(run_id: str, instance_id: str) -> None:
    """Remove the keys of an instance that has ended. Raises OSError."""
    for unit in (names.WORKLOAD, names.RELAY):
        path = Path(names.peer_keys_file(run_id, instance_id, unit))
        if path.exists():
            path.unlink()


def _write(path: str, content: object) -> None:
    shared_folder.write(Path(path), json.dumps(content), mode=0o600)
