"""Read a run's merged database: its tables and columns, and their rows, one at a time.

Callers name the columns that they need, since a user's own program may have tables of the same names with other
columns, or none at all.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from contract.exits import is_death
from fleet.base.errors import MergeError

DATABASE = "experiments.db"


def quoted(name: str) -> str:
    """Return a name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


class Merged:
    """A run's merged database, open for reading. `tables`: {table: {column: declared type}}."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        # Replace bytes that are not UTF-8; a NUL within a text does not end it.
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        names = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*' ORDER BY name"
        )
        self.tables: dict[str, dict[str, str]] = {
            name: dict(connection.execute("SELECT name, type FROM pragma_table_info(?)", (name,)).fetchall())
            for (name,) in names.fetchall()
        }

    def has(self, table: str, *columns: str) -> bool:
        """Whether there is such a table with these columns, and those that a merge adds."""
        return {"instance", "node", *columns} <= self.tables.get(table, {}).keys()

    def order(self, table: str) -> str:
        """Return the ORDER BY terms that sort a merged table's rows by instance and in the order written."""
        return f"instance, {'source_rowid' if 'source_rowid' in self.tables[table] else 'rowid'}"

    def rows(self, table: str, *columns: str, order: str = "") -> Iterator[dict[str, Any]]:
        """Yield each row as {column: value}, including `instance` and `node`; nothing if the table does not exist.

        Sort by `order` (columns, with commas), then by instance and in the order in which they were written.
        """
        if not self.has(table, *columns):
            return
        names = ("instance", "node", *columns)
        by = ", ".join(filter(None, (order, self.order(table))))
        query = f"SELECT {', '.join(map(quoted, names))} FROM {quoted(table)} ORDER BY {by}"  # noqa: S608 - quoted
        for row in self.connection.execute(query):
            yield dict(zip(names, row, strict=True))

    def count(self, table: str) -> int:
        """Return the number of rows of a table; 0 if it does not exist."""
        if table not in self.tables:
            return 0
        return int(self.connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0])  # noqa: S608 - quoted


@contextmanager
def opened(run: str | os.PathLike[str]) -> Iterator[Merged]:
    """Open the merged database in a run's folder. Raise MergeError if there is none, or it cannot be read."""
    path = Path(run).absolute() / DATABASE
    if not path.is_file():
        raise MergeError(
            f"{path}: nothing was merged yet; `ansible-playbook playbooks/fetch.yml -e run={path.parent.name}`"
        )
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            yield Merged(connection)
    except sqlite3.Error as error:
        raise MergeError(f"{path}: {error}; move it away and fetch again") from error


def deaths_of(db: Merged) -> list[dict[str, Any]]:
    """Return every process of a mind that died before its time, oldest first.

    Each is {"instance", "node", "life", "unit", "started_at", "ended_at", "lived_seconds", "cause", "detail",
    "memory_peak_mb", "memory_limit_mb", "cycle_number"}. For a run without the table `deaths`: the lives that ended in
    a death, as the minds themselves recorded them.
    """
    columns = (
        *("life", "unit", "started_at", "ended_at", "lived_seconds", "cause", "detail"),
        *("memory_peak_mb", "memory_limit_mb", "cycle_number"),
    )
    if db.has("deaths", *columns):
        return [death for death in db.rows("deaths", *columns, order="ended_at") if is_death(str(death["cause"]))]
    own = ("started_at", "ended_at", "duration_seconds", "death_cause", "crash_reason", "memory_usage_peak")
    return [
        {
            **dict.fromkeys(columns),
            **{key: life[key] for key in ("instance", "node", "started_at", "ended_at", "cycle_number")},
            "life": life["cycle_number"],
            "lived_seconds": life["duration_seconds"],
            "cause": life["death_cause"],
            "detail": life["crash_reason"],
            "memory_peak_mb": life["memory_usage_peak"],
        }
        for life in db.rows("experiment_cycles", *own, "cycle_number", order="ended_at")
        if life["death_cause"] is not None and is_death(str(life["death_cause"]))
    ]
