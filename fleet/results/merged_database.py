"""A run's merged database as it is read: what tables and columns are there, and their rows, one at a time.

Whoever reads it says which columns are needed: a program of the user's own may have tables of the same names, with
other columns, or none at all.
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
    """A name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


class Merged:
    """A run's merged database, open for reading. `tables`: {table: {column: declared type}}."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        # What is no UTF-8 is shown as far as it is; a NUL within a text is no end of it.
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        names = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*' ORDER BY name"
        )
        self.tables: dict[str, dict[str, str]] = {
            name: dict(connection.execute("SELECT name, type FROM pragma_table_info(?)", (name,)).fetchall())
            for (name,) in names.fetchall()
        }

    def has(self, table: str, *columns: str) -> bool:
        """Whether there is such a table with these columns, and those of a merge."""
        return {"instance", "node", *columns} <= self.tables.get(table, {}).keys()

    def order(self, table: str) -> str:
        """What brings the rows of a table that `has` its columns by instance, and as they were written."""
        return f"instance, {'source_rowid' if 'source_rowid' in self.tables[table] else 'rowid'}"

    def rows(self, table: str, *columns: str, order: str = "") -> Iterator[dict[str, Any]]:
        """Each row as {column: value}, `instance` and `node` with them; nothing where the table is not there.

        By `order` (columns, with commas), then by instance and as they were written.
        """
        if not self.has(table, *columns):
            return
        names = ("instance", "node", *columns)
        by = ", ".join(filter(None, (order, self.order(table))))
        query = f"SELECT {', '.join(map(quoted, names))} FROM {quoted(table)} ORDER BY {by}"  # noqa: S608 - quoted
        for row in self.connection.execute(query):
            yield dict(zip(names, row, strict=True))

    def count(self, table: str) -> int:
        """How many rows a table has; 0 where it is not there."""
        if table not in self.tables:
            return 0
        return int(self.connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0])  # noqa: S608 - quoted


@contextmanager
def opened(run: str | os.PathLike[str]) -> Iterator[Merged]:
    """The merged database in a run's folder. Raises MergeError when there is none, or it cannot be read."""
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
    """Every process of a mind that ended before its time, oldest first: {"instance", "node", "life", "unit",
    "started_at", "ended_at", "lived_seconds", "cause", "detail", "memory_peak_mb", "memory_limit_mb", "cycle_number"}.

    Of a run without that table: the lives that were cut short, as the minds themselves wrote them down.
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
