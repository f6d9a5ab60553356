"""`outcome.json`: how an instance ended. While there is none the instance may go on, also after a reboot."""

from __future__ import annotations

from dataclasses import dataclass

from .json_records import Record, choice
from .statuses import ENDED

LIMIT = 4096  # bytes


@dataclass(frozen=True)
class Outcome(Record):
    """How an instance ended, and when (ISO 8601, UTC). reason: a cause of death, if its node stopped it for one."""

    outcome: str = choice(ENDED)
    time: str = ""
    reason: str = ""
