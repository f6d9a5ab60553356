"""`progress.json`: how far a workload has come, as it reports itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .json_records import Record

LIMIT = 65536  # bytes


@dataclass(frozen=True)
class Progress(Record):
    """The life (cycle) and round that a mind is in, of how many rounds, and its messages. None: not reported."""

    cycle: Optional[int] = None
    round: Optional[int] = None
    rounds: Optional[int] = None
    messages: Optional[int] = None
