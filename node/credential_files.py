"""The credentials of instances on this node: root's files, which systemd opens for the units that they belong to."""

from __future__ import annotations

import json
from pathlib import Path

from contract import names
from contract.credentials import InstanceCredentials
from contract.launch_spec import LaunchSpec

from . import shared_folder


def write(spec: LaunchSpec, given: InstanceCredentials) -> None:
    """Write the credentials of an instance that is about to start. Raises OSError."""
    folder = Path(names.CREDENTIALS_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if spec.needs_credentials:
        _write(names.credentials_file(spec.run_id, spec.id, names.WORKLOAD), given.workload.to_json())
    if spec.relay:
        _write(names.credentials_file(spec.run_id, spec.id, names.RELAY), given.relay.to_json())


def remove(run_id: str, instance_id: str) -> None:
    """Remove the credentials of an instance that has ended. Raises OSError."""
    for unit in (names.WORKLOAD, names.RELAY):
        path = Path(names.credentials_file(run_id, instance_id, unit))
        if path.exists():
            path.unlink()


def _write(path: str, content: object) -> None:
    shared_folder.write(Path(path), json.dumps(content), mode=0o600)
