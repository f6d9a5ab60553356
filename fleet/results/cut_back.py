"""Take back from a run's merged database what an instance wrote after the checkpoint that it is resumed from.

Those rows are not lost: they stay in the database of the epoch in which they were written, `db/<instance>.e<epoch>.db`.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path

from contract.collected import DATABASE as DATABASE_COPY
from contract.events import Resumed
from fleet.base.errors import MergeError
from fleet.record.checkpoints import files, named
from fleet.record.run_folder import Run
from fleet.results.fetched_databases import Source, readable_uri
from fleet.results.merge import DEATHS, LEADING, ROWID, SOURCES, attached, open_merged, schema_of
from fleet.results.merged_database import DATABASE, quoted


def taken_back(run: Run, checkpoints: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Cut the merged database back to these checkpoints {instance: name}; return {instance: {table: rows}}.

    An empty name: back to the beginning. Raise MergeError.
    """
    left = {}
    for id, name in checkpoints.items():
        kept = named(run, id, name)
        left[id] = cut_back(run, id, files(run, kept)[0] if kept and kept.database else None)
    return left


def cut_back(run: Run, id: str, checkpoint: Path | None) -> dict[str, int]:
    """Remove an instance's rows that its checkpoint does not have; return {table: how many}.

    checkpoint: its database; None: it had none yet. Of tables whose rows have no number all of the instance's are
    removed: the next merge brings back what the checkpoint has. Raise MergeError.
    """
    if not (run.path / DATABASE).is_file():
        return {}
    left: dict[str, int] = {}
    with (
        tempfile.TemporaryDirectory(prefix=".cut.", dir=run.path) as scratch,
        closing(open_merged(run.path / DATABASE)) as db,
    ):
        try:
            with attached(db, _uri(checkpoint, id, Path(scratch))) if checkpoint else nullcontext():
                numbers = _numbers(db) if checkpoint else {}
                db.execute("BEGIN IMMEDIATE")
                for table in _merged_tables(db):
                    if rows := _cut(db, table, id, numbers.get(table.casefold(), "SELECT NULL WHERE 0")):
                        left[table] = rows
                db.execute(f"DELETE FROM main.{SOURCES} WHERE instance = ?", (id,))  # noqa: S608 - ours
                db.execute("COMMIT")
        except sqlite3.Error as error:
            raise MergeError(f"{run.path / DATABASE}: {error}; nothing of {id} was taken back") from error
    return left


def beyond(run: Run, id: str, epoch: int) -> dict[str, int]:
    """Return {table: rows} of an earlier epoch's database that the checkpoint does not have that followed it.

    Only rows that have numbers are counted. What cannot be read counts as nothing.
    """
    database = run.path / DATABASE_COPY.name(f"{id}.e{epoch}")
    after = [one.event for one in run.events() if isinstance(one.event, Resumed) and one.event.instance == id]
    name = next((event.checkpoint for event in after if event.epoch > epoch), "")
    kept = named(run, id, name) if name else None
    try:
        before = _rows(files(run, kept)[0], id, run.path) if kept and kept.database else {}
        found = {table: len(rows - before.get(table, set())) for table, rows in _rows(database, id, run.path).items()}
    except (sqlite3.Error, MergeError, OSError):
        return {}
    return {table: count for table, count in found.items() if count}


def _rows(database: Path, id: str, folder: Path) -> dict[str, set[int]]:
    """Return {table: the numbers of its rows}."""
    with tempfile.TemporaryDirectory(prefix=".rows.", dir=folder) as name:
        scratch = Path(name)
        with closing(open_merged(scratch / "none.db")) as db, attached(db, _uri(database, id, scratch)):
            queries = _numbers(db)
            return {
                table.name: {number for (number,) in db.execute(queries[name])}
                for name, table in schema_of(db).items()
                if name in queries
            }


def _uri(checkpoint: Path, id: str, scratch: Path) -> str:
    return readable_uri(Source(checkpoint, (), checkpoint.stat().st_size, ""), id, scratch, {})


def _numbers(db: sqlite3.Connection) -> dict[str, str]:
    """Return {merged table: the query for the numbers of its rows in the checkpoint}."""
    return {
        merged.casefold(): f"SELECT {table.rowid} FROM src.{quoted(table.name)}"  # noqa: S608 - quoted
        for merged, table in schema_of(db).items()
        if table.key is None
    }


def _merged_tables(db: sqlite3.Connection) -> list[str]:
    """Return the tables that a merge made."""
    names = db.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*'")
    found = []
    for (name,) in names.fetchall():
        columns = {column for (column,) in db.execute("SELECT name FROM pragma_table_info(?)", (name,))}
        if name not in (SOURCES, DEATHS) and {*LEADING, ROWID} <= columns:
            found.append(name)
    return found


def _cut(db: sqlite3.Connection, table: str, id: str, numbers: str) -> int:
    """Remove the rows that the checkpoint does not have; return how many of those that are numbered."""
    mine = f"DELETE FROM main.{quoted(table)} WHERE instance = ?"  # noqa: S608 - quoted
    db.execute(f"{mine} AND {ROWID} IS NULL", (id,))
    return db.execute(f"{mine} AND {ROWID} NOT IN ({numbers})", (id,)).rowcount
