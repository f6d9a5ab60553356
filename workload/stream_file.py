"""logs/stream.jsonl: every row that the workload adds, a JSON line each, in the order of each table.

The line follows the commit. What a death keeps from being written is written when the mind is back, by the database; so
nothing is lost and nothing is there twice. A row that is changed later (a memory that is corrupted) stays as it was.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from contract import names

from .database import Database

TABLES = (
    "messages",
    "self_reports",
    "interventions",
    "epistemic_assessments",
    "memory_states",
    "observations",
    "negotiations",
    "shared_memory",
    "consensus",
    "game_rounds",
    "generations",
    "system_metrics",
)


class Stream:
    """The file, and up to which row it is written. Used under the database's lock."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        path = directory / names.STREAM
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(str(path), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self._written = dict.fromkeys(TABLES, 0)
        whole = 0
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break  # a death tore it
                whole += len(line)
                row = json.loads(line)
                self._written[row["table"]] = row["id"]
        os.ftruncate(self._file, whole)

    def catch_up(self) -> None:
        """Append the rows that the database has and the file has not."""
        lines = []
        with self.database.lock:
            for table in TABLES:
                names, rows = self.database.table(table, self._written[table])
                for number, *values in rows:
                    row: dict[str, Any] = {"table": table, "id": number}
                    row.update(zip(names[1:], values))
                    lines.append(json.dumps(row, ensure_ascii=False) + "\n")
                    self._written[table] = number
            if lines:
                os.write(self._file, "".join(lines).encode("utf-8", "replace"))
