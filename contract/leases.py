"""The lease of an instance that may be moved: it acts until it ends, whether its node can be reached or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from .json_records import ContractError, Record
from .names import lease_file

LIMIT = 4096  # bytes
MOST_SECONDS = 3600.0  # that a lease may last
# Its end is SIGKILL at once; where no process can be made that sends it, systemd's SIGTERM, and SIGKILL so much later.
STOP_SECONDS = 5


@dataclass(frozen=True)
class Lease(Record):
    """Lets an epoch of an instance act until a moment of one boot of its node: seconds of CLOCK_BOOTTIME there."""

    boot: str
    until: float
    epoch: int


def read_lease(run_id: str, instance_id: str) -> Optional[Lease]:
    """The lease that the node last wrote for an instance; None where there is none, or none that root wrote."""
    try:
        return Lease.from_file(Path(lease_file(run_id, instance_id)), LIMIT, 0)
    except (FileNotFoundError, ContractError):
        return None
