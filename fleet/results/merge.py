"""Merge `db/<instance>.db` of every instance of a run into one database, `experiments.db`.

Every table of every source keeps its name and its columns, with `run_id`, `instance` and `node` before them. The last
column of a new table, `source_rowid`, is the row's number in its source: (instance, source_rowid) identifies a row, so
merging again adds new rows, updates changed ones, and duplicates none. A row that its source has deleted since is kept,
because this is a record.

SQLite does the work (ATTACH, INSERT ... SELECT), one transaction per source; no row passes through Python.

Two tables do not come from the sources: `merged_sources` lists the files that were merged, with the sha256 of each and
what was wrong with it, so that an unchanged file is not read again; `deaths` is written by `fleet.results.deaths`.
A source's table with one of these names becomes `source_<name>`.
"""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleet.base.errors import MergeError
from fleet.results.fetched_databases import Source, readable_uri, sources_of
from fleet.results.merged_database import DATABASE, quoted

LEADING = ("run_id", "instance", "node")
ROWID = "source_rowid"
SOURCES, DEATHS = "merged_sources", "deaths"
# Errors of the merged database, not of the source being read: continuing would only repeat them.
OURS = ("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_READONLY", "SQLITE_LOCKED")


@dataclass
class _Table:
    """A table of a source, or the union of one over all sources. `columns` is {merged name: (own name, type)}.

    Tables are stored under the name under which they are merged.
    """

    name: str
    columns: dict[str, tuple[str, str]] = field(default_factory=dict)
    key: tuple[str, ...] | None = None  # merged names of the primary key of a WITHOUT ROWID table, else None
    rowid: str = "rowid"


def merge(run: str | os.PathLike[str], instances: Mapping[str, str], run_id: str) -> dict[str, Any]:
    """Merge `db/<id>.db` of every instance {id: node} into the run folder's `experiments.db`. Idempotent.

    Return {"path": the database, "changed": whether any row changed, "rows": {instance: rows added or changed},
    "problems": {instance: what is wrong with its database}}. A problem never stops the others, and of a damaged
    database the rows that can be read before the damage are merged. A row keeps the node it was first merged with until
    it changes. Raise MergeError if experiments.db itself cannot be read or written.
    """
    folder = Path(run).absolute()
    if not folder.is_dir():
        raise MergeError(f"{folder}: no such run folder")
    problems: dict[str, str] = {}
    sources = sources_of(folder / "db", sorted(instances), problems)
    rows = dict.fromkeys(sources, 0)
    target = folder / DATABASE
    with tempfile.TemporaryDirectory(prefix=".merge.", dir=folder) as scratch, closing(open_merged(target)) as db:
        whole = dict(db.execute(f"SELECT instance, sha256 FROM main.{SOURCES} WHERE problem IS NULL"))  # noqa: S608 - ours
        new = {instance: source for instance, source in sources.items() if whole.get(instance) != source.sha256}
        uris = {instance: readable_uri(source, instance, Path(scratch), problems) for instance, source in new.items()}
        schemas = _schemas(db, uris, problems)
        union = _union(schemas.values())
        for instance, source in new.items():
            leading = (run_id, instance, str(instances[instance]))
            if instance in schemas:
                rows[instance] = _merge_source(db, uris[instance], schemas[instance], union, leading, problems)
            _remember(db, leading, source, problems.get(instance))
    problems = dict(sorted(problems.items()))
    return {"path": str(target), "changed": any(rows.values()), "rows": rows, "problems": problems}


def summary(run: str | os.PathLike[str]) -> dict[str, dict[str, int]]:
    """Return the rows per table and instance, {table: {instance: rows}}; empty before a merge. Raise MergeError."""
    path = Path(run).absolute() / DATABASE
    if not path.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            names = [name for name, _ in _tables(db, "main") if name != SOURCES]
            return {
                name: dict(db.execute(f"SELECT instance, count(*) FROM {quoted(name)} GROUP BY instance"))  # noqa: S608 - quoted
                for name in names
                if "instance" in _columns(db, "main", name)
            }
    except sqlite3.Error as error:
        raise MergeError(f"{path}: {error}; {_cure(error)}") from error


def _cure(error: sqlite3.Error) -> str:
    """Return what to do about an error in the merged database."""
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return "make room on its disk and fetch again" if full else "move it away and fetch again"


def open_merged(path: Path) -> sqlite3.Connection:
    """Open the merged database for writing in explicit transactions; create it if missing. Raise MergeError."""
    try:
        # isolation_level None: this module opens its transactions itself.
        db = sqlite3.connect(f"{path.as_uri()}?mode=rwc", uri=True, isolation_level=None, timeout=60)
    except sqlite3.Error as error:
        raise MergeError(f"{path}: {error}") from error
    try:
        # Sources come from nodes: their schemas may run no function with side effects, and pages are checked when read.
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        db.execute("PRAGMA cache_size = -65536")  # 64 MiB
        lead = ", ".join(f"{column} TEXT NOT NULL" for column in LEADING)
        db.execute(
            f"CREATE TABLE IF NOT EXISTS main.{SOURCES} ({lead}, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,"
            " problem TEXT, merged_at TEXT NOT NULL, UNIQUE (instance))"
        )
    except sqlite3.Error as error:
        db.close()
        raise MergeError(f"{path}: {error}; {_cure(error)}") from error
    return db


def _remember(db: sqlite3.Connection, leading: tuple[str, str, str], source: Source, problem: str | None) -> None:
    """Record that this file has been merged, and what is wrong with it."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    try:
        db.execute(
            f"INSERT INTO main.{SOURCES} VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (instance) DO UPDATE SET"  # noqa: S608 - ours
            " node = excluded.node, bytes = excluded.bytes, sha256 = excluded.sha256, problem = excluded.problem,"
            " merged_at = excluded.merged_at WHERE (sha256, problem) IS NOT (excluded.sha256, excluded.problem)",
            (*leading, source.bytes, source.sha256, problem, now),
        )
    except sqlite3.Error as error:
        raise MergeError(f"experiments.db: {error}; all of instance {leading[1]} is merged") from error


@contextmanager
def attached(db: sqlite3.Connection, uri: str, tolerant: bool = False) -> Iterator[None]:
    """Attach a source as `src`. tolerant: also one that is shorter than its header states."""
    # SQLite rejects a file shorter than its header states, except under writable_schema (as its own .recover does).
    if tolerant:
        db.execute("PRAGMA writable_schema = ON")
    try:
        db.execute("ATTACH ? AS src", (uri,))
        try:
            yield
        finally:
            db.execute("DETACH src")
    finally:
        if tolerant:
            db.execute("PRAGMA writable_schema = OFF")


def _schemas(db: sqlite3.Connection, sources: dict[str, str], problems: dict[str, str]) -> dict[str, dict[str, _Table]]:
    """Return {instance: {folded table name: table}} for every source whose schema can be read."""
    found: dict[str, dict[str, _Table]] = {}
    for instance, uri in sources.items():
        for tolerant in (False, True):
            try:
                with attached(db, uri, tolerant):
                    found[instance] = schema_of(db)
                break
            except sqlite3.Error as error:
                _note(problems, instance, error)
                if _code(error) == "SQLITE_NOTADB":
                    break
    return found


def schema_of(db: sqlite3.Connection) -> dict[str, _Table]:
    """Return {folded name under which it is merged: table} of the attached source."""
    tables: dict[str, _Table] = {}
    present = {_fold(name): (name, without_rowid) for name, without_rowid in _tables(db, "src")}
    for name, without_rowid in present.values():
        table = _Table(name)
        own = _columns(db, "src", name)
        key: list[tuple[int, str]] = []
        for folded, (column, declared, position) in own.items():
            merged = column
            while _fold(merged) in {*LEADING, ROWID} or (merged != column and _fold(merged) in own):
                merged = f"source_{merged}"
            table.columns[_fold(merged)] = (column, declared)
            if position:
                key.append((position, _fold(merged)))
            if folded == table.rowid:  # a column of that name hides the number: SQLite has three names for it
                table.rowid = next((alias for alias in ("_rowid_", "oid") if alias not in own), "")
        if without_rowid or not table.rowid:
            table.key = tuple(name for _, name in sorted(key))
        if table.key != ():
            merged = name
            while _fold(merged) in (SOURCES, DEATHS) or (merged != name and _fold(merged) in present):
                merged = f"source_{merged}"
            tables[_fold(merged)] = table
    return tables


def _union(schemas: Any) -> dict[str, _Table]:
    """Return every table with every column of any source.

    A column that sources declare differently gets no type at all, so that no value is converted when it is stored.
    """
    union: dict[str, _Table] = {}
    for tables in schemas:
        for folded, table in tables.items():
            whole = union.setdefault(folded, _Table(table.name if _fold(table.name) == folded else folded))
            for merged, (column, declared) in table.columns.items():
                name = column if _fold(column) == merged else merged
                seen = whole.columns.setdefault(merged, (name, declared))
                if _affinity(seen[1]) != _affinity(declared):
                    whole.columns[merged] = (seen[0], "")
    return union


def _merge_source(
    db: sqlite3.Connection,
    uri: str,
    tables: dict[str, _Table],
    union: dict[str, _Table],
    leading: tuple[str, str, str],
    problems: dict[str, str],
) -> int:
    """Merge one source in one transaction; if it is damaged, in a second one that stops before the damage.

    Return the number of rows added or changed.
    """
    instance = leading[1]
    try:
        with attached(db, uri, tolerant=instance in problems):
            try:
                return _transaction(db, tables, union, leading, {})
            except sqlite3.DatabaseError as error:
                if not _code(error).startswith(("SQLITE_CORRUPT", "SQLITE_IOERR")):
                    raise
                _note(problems, instance, error)
            limits = {folded: limit for folded, table in tables.items() if (limit := _readable(db, table)) >= 0}
            cut = ", ".join(f"{tables[folded].name} after {limit} rows" for folded, limit in limits.items())
            problems[instance] += f"; lost: {cut}" if cut else ""
            return _transaction(db, tables, union, leading, limits)
    except sqlite3.Error as error:
        if _code(error).startswith(OURS):
            raise MergeError(f"experiments.db: {error}; nothing of instance {instance} was merged") from error
        _note(problems, instance, error)
    return 0


def _transaction(
    db: sqlite3.Connection,
    tables: dict[str, _Table],
    union: dict[str, _Table],
    leading: tuple[str, str, str],
    limits: dict[str, int],
) -> int:
    """Copy every table, or none; return the number of rows added or changed."""
    rows = 0
    db.execute("BEGIN IMMEDIATE")
    try:
        for folded, table in tables.items():
            _ensure(db, union[folded], table.key)
            rows += _copy(db, table, union[folded], leading, limits.get(folded, -1))
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    return rows


def _ensure(db: sqlite3.Connection, table: _Table, key: tuple[str, ...] | None) -> None:
    """Create the merged table, or add the columns that it lacks."""
    name = quoted(table.name)
    have = _columns(db, "main", table.name)
    if not have:
        lead = ", ".join(f"{quoted(column)} TEXT NOT NULL" for column in LEADING)
        own = "".join(f"{quoted(column)} {_type(declared)}, " for column, declared in table.columns.values())
        db.execute(f"CREATE TABLE main.{name} ({lead}, {own}{ROWID} INTEGER, UNIQUE (instance, {ROWID}))")
    elif ROWID not in have or any(column not in have for column in LEADING):
        raise sqlite3.IntegrityError(f"experiments.db already has a table {table.name} that no merge made")
    else:
        for folded, (column, declared) in table.columns.items():
            if folded not in have:
                db.execute(f"ALTER TABLE main.{name} ADD COLUMN {quoted(column)} {_type(declared)}")
            elif have[folded][1] and _affinity(have[folded][1]) != _affinity(declared):
                # A source of a later merge declares it differently: remove the type, so that no value is converted.
                db.execute(f"ALTER TABLE main.{name} RENAME COLUMN {quoted(column)} TO jarfleet_old")
                db.execute(f"ALTER TABLE main.{name} ADD COLUMN {quoted(column)}")
                db.execute(f"UPDATE main.{name} SET {quoted(column)} = jarfleet_old")  # noqa: S608 - quoted
                db.execute(f"ALTER TABLE main.{name} DROP COLUMN jarfleet_old")
    if key is not None:
        columns = ", ".join(quoted(table.columns[column][0]) for column in key)
        index = quoted(f"jarfleet_key_{table.name}")
        db.execute(
            f"CREATE UNIQUE INDEX IF NOT EXISTS main.{index} ON {name} (instance, {columns}) WHERE {ROWID} IS NULL"
        )


def _copy(db: sqlite3.Connection, table: _Table, whole: _Table, leading: tuple[str, str, str], limit: int) -> int:
    """Copy the first `limit` rows (-1: all) of the attached table; return how many were added or changed."""
    names = [whole.columns[merged][0] for merged in table.columns]
    into = ", ".join(map(quoted, (*LEADING, *names, ROWID)))
    number = "NULL" if table.key is not None else table.rowid
    own = "".join(f"{quoted(column)}, " for column, _ in table.columns.values())
    same = f"(instance, {ROWID})"
    if table.key is not None:
        columns = ", ".join(quoted(whole.columns[merged][0]) for merged in table.key)
        same = f"(instance, {columns}) WHERE {ROWID} IS NULL"
    new = ", ".join(f"excluded.{quoted(name)}" for name in names)
    old = ", ".join(f"{quoted(whole.name)}.{quoted(name)}" for name in names)
    sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in ("node", *names))
    # NOT INDEXED: in the order of the table itself, which is the order in which _readable counted.
    done = db.execute(
        f"INSERT INTO main.{quoted(whole.name)} ({into}) "  # noqa: S608 - every name is quoted
        f"SELECT ?, ?, ?, {own}{number} FROM src.{quoted(table.name)} NOT INDEXED WHERE true LIMIT ? "
        f"ON CONFLICT {same} DO UPDATE SET {sets} WHERE ({old}) IS NOT ({new})",
        (*leading, limit),
    )
    return max(done.rowcount, 0)


def _readable(db: sqlite3.Connection, table: _Table) -> int:
    """Return how many rows of a damaged table can be read, from its first on; -1 if all can.

    Use bisection with SELECT only: after an INSERT that failed, only a rollback makes the merged database usable.
    """
    # max() of every column, because counting alone would not read what is stored on overflow pages.
    values = "".join(f", max({quoted(column)}) IS NULL" for column, _ in table.columns.values())
    probe = f"SELECT count(*){values} FROM (SELECT * FROM src.{quoted(table.name)} NOT INDEXED LIMIT ?)"  # noqa: S608 - quoted

    def reads(rows: int) -> bool:
        try:
            db.execute(probe, (rows,)).fetchone()
        except sqlite3.DatabaseError:
            return False
        return True

    if reads(-1):
        return -1
    good, bad = 0, 1024
    while reads(bad):
        good, bad = bad, bad * 2
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if reads(middle) else (good, middle)
    return good


def _tables(db: sqlite3.Connection, schema: str) -> list[tuple[str, bool]]:
    """Return (name, whether without rowid) of the ordinary tables: no views, virtual tables, or SQLite's own tables."""
    found = db.execute(
        "SELECT name, wr FROM pragma_table_list WHERE schema = ? AND type = 'table' ORDER BY name", (schema,)
    )
    return [(name, bool(wr)) for name, wr in found if not _fold(name).startswith("sqlite_")]


def _columns(db: sqlite3.Connection, schema: str, table: str) -> dict[str, tuple[str, str, int]]:
    """Return {folded name: (name, declared type, position in the primary key or 0)}, without hidden columns."""
    found = db.execute(
        "SELECT name, type, pk FROM pragma_table_xinfo(?, ?) WHERE hidden <> 1 ORDER BY cid", (table, schema)
    )
    return {_fold(name): (name, declared, pk) for name, declared, pk in found}


def _fold(name: str) -> str:
    """Return a name as SQLite compares it: ASCII letters without case."""
    return name.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def _affinity(declared: str) -> str:
    """Return the conversion that a declared type implies: section 3.1 of sqlite.org/datatype3.html."""
    name = declared.upper()
    for affinity, marks in (("INTEGER", ("INT",)), ("TEXT", ("CHAR", "CLOB", "TEXT")), ("", ("BLOB",))):
        if any(mark in name for mark in marks):
            return affinity
    if not name:
        return ""
    return "REAL" if any(mark in name for mark in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def _type(declared: str) -> str:
    """Return a declared type in a form that is safe in a CREATE TABLE, since sources are not trusted."""
    return declared if re.fullmatch(r"[A-Za-z_ ]*(\(\s*\d+\s*(,\s*\d+\s*)?\))?", declared) else _affinity(declared)


def _note(problems: dict[str, str], instance: str, error: sqlite3.Error) -> None:
    """Add SQLite's message about an instance's database, once, and without the path of our copy."""
    said = str(error).partition(": file:")[0]
    known = problems.get(instance, "")
    if said not in known:
        problems[instance] = "; ".join(filter(None, (known, said)))


def _code(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", ""))
