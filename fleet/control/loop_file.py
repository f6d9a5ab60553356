"""What a control loop is started with: one file, written by `playbooks/control.yml`, in the folder of its cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contract.json_records import Record
from contract.leases import STOP_SECONDS
from fleet.base.errors import ControlError
from fleet.base.files import write_json
from fleet.base.state_folder import as_file_name, state_folder
from fleet.control.model import Settings

FILE = "loop.json"
LIMIT = 16 * 2**20  # bytes
LEAST_LEASE_SECONDS = 20.0
TIMER_SECONDS = 1.0  # for systemd's timer to be noticed on a busy node


@dataclass(frozen=True)
class NodeToAttend(Record):
    """One node. command: opens the connection to its program; maintenance: a person's word, nothing goes there."""

    command: tuple[str, ...]
    work_dir: str
    owner: str
    memory_percent: float
    disk_percent: float
    maintenance: bool = False


@dataclass(frozen=True)
class LoopFile(Record):
    """The settings of one loop. inventory: ansible-playbook's options for it; hook: a command for each event."""

    cluster: str
    project: str
    inventory: tuple[str, ...]
    nodes: Mapping[str, NodeToAttend]
    interval_seconds: float
    checkpoint_seconds: float
    most_lost_percent: float
    controller: str
    term: int
    takeover: bool = False
    hook: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        """How its decisions are timed: a node is lost after two intervals of silence."""
        lease = max(LEAST_LEASE_SECONDS, self.interval_seconds * 4 / 3)
        return Settings(
            interval=self.interval_seconds,
            lease=lease,
            stopping=STOP_SECONDS + TIMER_SECONDS,
            lost_after=2 * self.interval_seconds,
            most_lost_percent=self.most_lost_percent,
        )

    @classmethod
    def of(cls, folder: Path) -> LoopFile:
        """Return the one in a folder. Raise ControlError, ContractError."""
        try:
            return cls.from_file(folder / FILE, LIMIT)
        except FileNotFoundError as error:
            raise ControlError(f"{folder / FILE}: missing; ansible-playbook playbooks/control.yml writes it") from error

    def write(self, folder: Path) -> None:
        """Put it into its folder, for its user alone."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(folder / FILE, self.to_json(), mode=0o600)


def folder_of(cluster: str) -> Path:
    """Return where the control loop of a cluster keeps its state."""
    return state_folder("control") / as_file_name(cluster)
