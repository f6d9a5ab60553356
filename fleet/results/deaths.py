"""The table `deaths` of a run's merged database: every life of every process, and how it ended.

Each row is one exit, from what the nodes recorded (`logs/<instance>.exits.jsonl`, see `contract.exits`); completed
lives are included. For an instance that was lost with its node, the row comes from the run's events until the node
answers again and its own exit log can be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract import collected
from contract.events import Collected, Launched, NodeLost, StatusChanged
from contract.exits import NODE_LOST, Exit, read_exits
from contract.names import WORKLOAD, host_name
from contract.statuses import ALIVE, LOST, PENDING
from fleet.base.errors import MergeError
from fleet.record.run_folder import Run
from fleet.results import merged_database
from fleet.results.merge import DEATHS, LEADING, ROWID, open_merged
from fleet.results.merged_database import DATABASE, opened

MIB = 2**20
COLUMNS = {
    "life": "INTEGER NOT NULL",  # of this unit of the instance, from 1
    "unit": "TEXT NOT NULL",  # workload | llama
    "started_at": "TEXT",
    "ended_at": "TEXT",
    "lived_seconds": "REAL",
    "cause": "TEXT NOT NULL",  # completed | out_of_memory | signal | exit | stopped | node_lost | fenced
    "detail": "TEXT NOT NULL",  # a description for a person
    "memory_peak_mb": "REAL",  # of the unit in this life
    "memory_limit_mb": "REAL",  # of the instance
    "cycle_number": "INTEGER",  # the mind's life, if it reported it
}


def write_deaths(run: Run, nodes: Mapping[str, str], statuses: Mapping[str, str]) -> bool:
    """Update the table with the fetched exits of these instances {id: node}; return whether any row changed.

    statuses: {id: status} as the collection found it, LOST if the node did not answer. Raise MergeError.
    """
    rows: list[tuple[Any, ...]] = []
    for id, node in sorted(nodes.items()):
        lives = _lives(run.path / collected.EXIT_LOG.name(id), node)
        if statuses.get(id) == LOST:
            lives += _lost(run, id, node, 1 + sum(life["unit"] == "workload" for life in lives))
        rows += [(run.run_id, id, *(life[name] for name in ("node", *COLUMNS, ROWID))) for life in lives]
    names = ", ".join((*LEADING, *COLUMNS, ROWID))
    ours = f"instance IN ({', '.join('?' * len(nodes))})"
    with closing(open_merged(run.path / DATABASE)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
            lead = ", ".join(f"{column} TEXT NOT NULL" for column in LEADING)
            own = ", ".join(f"{column} {declared}" for column, declared in COLUMNS.items())
            unique = "UNIQUE (instance, unit, life)"
            db.execute(f"CREATE TABLE IF NOT EXISTS {DEATHS} ({lead}, {own}, {ROWID} INTEGER, {unique})")
            had = db.execute(f"SELECT {names} FROM {DEATHS} WHERE {ours} ORDER BY rowid", [*nodes]).fetchall()  # noqa: S608 - ours
            if had != rows:
                db.execute(f"DELETE FROM {DEATHS} WHERE {ours}", [*nodes])  # noqa: S608 - ours
                marks = ", ".join("?" * (len(LEADING) + len(COLUMNS) + 1))
                db.executemany(f"INSERT INTO {DEATHS} ({names}) VALUES ({marks})", rows)  # noqa: S608 - ours
            db.execute("COMMIT")
        except sqlite3.Error as error:
            raise MergeError(f"{run.path / DATABASE}: the table {DEATHS} cannot be written: {error}") from error
    return had != rows


def read_deaths(run: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's table that are deaths, oldest first; empty before a collection. Raise MergeError."""
    if not (run / DATABASE).is_file():
        return []
    with opened(run) as db:
        return merged_database.deaths_of(db)


def _lives(exit_log: Path, node: str) -> list[dict[str, Any]]:
    """Return the lives in a node's exit log, in its order."""
    found: list[dict[str, Any]] = []
    for number, one in enumerate(read_exits(exit_log).exits, start=1):
        before = sum(life["unit"] == one.unit for life in found)
        found.append({**_life(one, node), "life": before + 1, ROWID: number})
    return found


def _life(one: Exit, node: str) -> dict[str, Any]:
    """Return an exit as columns of the table."""
    return {
        "node": one.node or node,
        "unit": one.unit,
        "started_at": one.started_at,
        "ended_at": one.time,
        "lived_seconds": one.lived_seconds,
        "cause": one.cause,
        "detail": one.words,
        "memory_peak_mb": _mib(one.memory.unit_peak),
        "memory_limit_mb": _mib(one.memory.limit),
        "cycle_number": one.cycle,
    }


def _lost(run: Run, id: str, node: str, life: int) -> list[dict[str, Any]]:
    """Return the life of an instance that was alive when its node was lost for good, from the run's events."""
    status, lost_at, launched_at = PENDING, "", ""
    for time, event in run.events():
        match event:
            case Launched(instance=name) if name == host_name(id, node):
                launched_at = time
            case StatusChanged(instance=name) if name == id:
                status, lost_at = event.status, ""
            case NodeLost(node=name) if name == node:
                lost_at = event.last_heard or time
            case Collected() if event.statuses.get(id, LOST) != LOST:
                status, lost_at = event.statuses[id], ""
    if not lost_at or status not in ALIVE:
        return []
    ended = datetime.fromisoformat(lost_at)
    began = datetime.fromisoformat(launched_at) if launched_at and life == 1 else None  # a later start is unknown
    one = Exit(
        unit=WORKLOAD,
        time=_timestamp(ended),
        cause=NODE_LOST,
        started_at=_timestamp(began) if began else None,
        lived_seconds=round(max(0.0, (ended - began).total_seconds()), 3) if began else None,
    )
    return [{**_life(one, node), "life": life, ROWID: None}]


def _timestamp(moment: datetime) -> str:
    """Return a time in the format of the tables: ISO 8601, UTC, milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _mib(size: int | None) -> float | None:
    return None if size is None else round(size / MIB, 1)
