"""What a collection brings home of an instance, and of what size at most: these files and no others.

A node lays its copies out as the run's folder on the controller is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

MIB = 2**20


@dataclass(frozen=True)
class Copy:
    """One file: its path, with the instance's id, and its limit in bytes."""

    path: str
    limit: int

    def name(self, instance_id: str) -> str:
        """The path for an instance."""
        return self.path.format(id=instance_id)


LOG = Copy("logs/{id}.log", 256 * MIB)
EXIT_LOG = Copy("logs/{id}.exits.jsonl", 64 * MIB)
STREAM = Copy("logs/{id}.stream.jsonl", 2048 * MIB)
DATABASE = Copy("db/{id}.db", 8192 * MIB)
# The database's files as they lay there, where SQLite could not copy it.
RAW_DATABASE = Copy("raw/{id}.db", 8192 * MIB)
RAW_DATABASE_LOG = Copy("raw/{id}.db-wal", 8192 * MIB)
# The files that the experiment asked for, packed.
FILES = Copy("files/{id}.tar", 4096 * MIB)
# The files that an instance gets back when it is resumed, packed; the controller never unpacks them.
STATE = Copy("state/{id}.tar", 4096 * MIB)
# llama-server's slot (`contract.slot`), of which only a checkpoint makes use.
SLOT = Copy("slots/{id}.bin", 8192 * MIB)
MOST_FILES = 10_000  # in each
COPIES: Tuple[Copy, ...] = (LOG, EXIT_LOG, STREAM, FILES, STATE, DATABASE, RAW_DATABASE, RAW_DATABASE_LOG)
