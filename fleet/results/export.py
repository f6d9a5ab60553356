"""Export a run's merged database: one Parquet or CSV file per table, in `runs/<run_id>/export/`.

All rows and columns are exported, by instance and in the order in which they were written. A column whose values have
one type keeps it (integers, floats, text, bytes); integers among floats become floats if none loses a digit. Other
mixed columns become text, with bytes as hexadecimal digits; CSV has bytes only in that form. Missing values stay
missing: in CSV they are empty, and an empty text is "".
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from fleet.base.errors import ExportError
from fleet.base.files import file_sha256
from fleet.record.run_folder import Run
from fleet.results.merged_database import Merged, opened, quoted

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "export"
ROWS = 20_000  # held in memory at once
EXACT = 2**53  # up to here a float represents every integer exactly
Format = Literal["parquet", "csv"]


def export(run: Run, format: Format = "parquet", *, check: bool = False) -> dict[str, Any]:
    """Write each table of the run's merged database as `<table>.<format>`.

    Return {"path": the folder, "changed": the files that are new or different, "rows": {file: rows}}. A file that is
    already up to date stays untouched. check: write nothing. Raise MergeError if there is no database to read,
    ExportError if pyarrow is missing or a file cannot be written.
    """
    try:
        import pyarrow  # noqa: F401 - an extra: only exports need it
    except ModuleNotFoundError as error:
        raise ExportError("pyarrow is not installed; `make setup`, or pip install 'jarfleet[analysis]'") from error
    folder = run.path / FOLDER
    changed: list[str] = []
    rows: dict[str, int] = {}
    try:
        with opened(run.path) as db, tempfile.TemporaryDirectory(prefix=".export.", dir=run.path) as scratch:
            for table in db.tables:
                # A program's own table may have any name, even a path.
                name = f"{quote(table, safe=' ')}.{format}"
                made, final = Path(scratch) / name, folder / name
                rows[name] = _write(db, table, made, format)
                if not final.is_file() or file_sha256(final) != file_sha256(made):
                    changed.append(name)
                    if not check:
                        folder.mkdir(exist_ok=True)
                        made.replace(final)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written: {error}") from error
    return {"path": str(folder), "changed": changed, "rows": rows}


def _write(db: Merged, table: str, path: Path, format: Format) -> int:
    """Write one table, and return its number of rows."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    columns = db.tables[table]
    kinds = {column: _kind(db, table, column, format) for column in columns}
    schema = pa.schema([(column, type) for column, (type, _) in kinds.items()])
    converters = [convert for _, convert in kinds.values()]
    total = 0
    writer: Any = parquet.ParquetWriter(path, schema) if format == "parquet" else csv.CSVWriter(path, schema)
    with writer:
        for rows in _batches(db, table):
            values = [
                [None if value is None else convert(value) for value in column]
                for convert, column in zip(converters, zip(*rows, strict=True), strict=True)
            ]
            writer.write_batch(pa.record_batch(values, schema=schema))
            total += len(rows)
    return total


def _batches(db: Merged, table: str) -> Iterator[list[tuple[Any, ...]]]:
    order = f" ORDER BY {db.order(table)}" if db.has(table) else ""
    cursor = db.connection.execute(f"SELECT * FROM {quoted(table)}{order}")  # noqa: S608 - quoted
    while rows := cursor.fetchmany(ROWS):
        yield rows


def _kind(db: Merged, table: str, column: str, format: Format) -> tuple[pa.DataType, Callable[[Any], Any]]:
    """Return the type of a column, chosen by its values, and a function that converts a value to it."""
    import pyarrow as pa

    name = quoted(column)
    query = f"SELECT typeof({name}), max(abs(CASE typeof({name}) WHEN 'integer' THEN max({name}, -{2**63 - 1}) END))"
    found = dict(db.connection.execute(f"{query} FROM {quoted(table)} GROUP BY 1").fetchall())
    largest = found.get("integer") or 0
    kinds = found.keys() - {"null"} or {_declared(db.tables[table][column])}
    if kinds == {"integer"}:
        return pa.int64(), int
    if kinds == {"real"} or (kinds == {"integer", "real"} and largest <= EXACT):
        return pa.float64(), float
    if kinds == {"blob"} and format == "parquet":
        return pa.binary(), bytes
    return pa.string(), _text


def _declared(type: str) -> str:
    """Return the type that a column without any value is declared to hold."""
    name = type.upper()
    if "INT" in name:
        return "integer"
    return "real" if any(mark in name for mark in ("REAL", "FLOA", "DOUB")) else "text"


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
