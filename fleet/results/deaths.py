"""The table `deaths` of a run's merged database: every life of every process, and how it ended.

A row an end, from what the nodes wrote down (`logs/<instance>.exits.jsonl`, see `workload.ledger`); lives that ended in
their own time are among them. An instance that is gone with its node can tell nothing: then the run's events do, until
it comes back and tells itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet.base.errors import MergeError
from fleet.record.run_folder import Run
from fleet.results import merged_database
from fleet.results.merge import DEATHS, LEADING, ROWID, open_merged
from fleet.results.merged_database import DATABASE, opened
from placement.adapters.hostvars import HOLDING
from workload import ledger
from workload.exits import why

MIB = 2**20
COLUMNS = {
    "life": "INTEGER NOT NULL",  # of this unit of the instance, from 1
    "unit": "TEXT NOT NULL",  # workload | llama
    "started_at": "TEXT",
    "ended_at": "TEXT",
    "lived_seconds": "REAL",
    "cause": "TEXT NOT NULL",  # completed | out_of_memory | signal | exit | stopped | node_lost | fenced
    "detail": "TEXT NOT NULL",  # in words
    "memory_peak_mb": "REAL",  # of the unit in this life
    "memory_limit_mb": "REAL",  # of the instance
    "cycle_number": "INTEGER",  # the mind's life, where it has told
}


def write_deaths(run: Run, nodes: Mapping[str, str], statuses: Mapping[str, str]) -> bool:
    """Bring the table up to date with what was fetched of these instances {id: node}; whether any row changed.

    statuses: {id: status} as the collection found it, LOST where it could not ask. Raises MergeError.
    """
    rows: list[tuple[Any, ...]] = []
    for id, node in sorted(nodes.items()):
        lives = _lives(run.path / "logs" / f"{id}.exits.jsonl", node)
        if statuses.get(id) == "LOST":
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
    """The rows of a run's table that are deaths, oldest first; empty before a collection. Raises MergeError."""
    if not (run / DATABASE).is_file():
        return []
    with opened(run) as db:
        return merged_database.deaths_of(db)


def _lives(exits: Path, node: str) -> list[dict[str, Any]]:
    """The lives that a node's ledger tells of, in its order."""
    found: list[dict[str, Any]] = []
    seen = set()
    for number, end in enumerate(ledger.read(exits), start=1):
        name = (end["unit"], str(end.get("invocation")))
        if end.get("invocation") and name in seen:
            continue
        seen.add(name)
        before = sum(life["unit"] == end["unit"] for life in found)
        found.append({**_life(end, node), "life": before + 1, ROWID: number})
    return found


def _life(end: Mapping[str, Any], node: str) -> dict[str, Any]:
    """A line of a ledger as columns; what is not of the right kind, which only a user's own program writes, is null."""
    memory = end["memory"] if isinstance(end.get("memory"), dict) else {}
    ways = {name: _text(end.get(name)) or "" for name in ("result", "code", "status")}
    # An instance that was started before causes were written down has systemd's words alone.
    cause = _text(end.get("cause")) or why(end["unit"], ways, "", False, None)
    return {
        "node": _text(end.get("node")) or node,
        "unit": end["unit"],
        "started_at": _text(end.get("started_at")),
        "ended_at": _text(end.get("time")),
        "lived_seconds": _number(end.get("lived_seconds")),
        "cause": cause,
        "detail": ledger.words({**ways, "cause": cause}),
        "memory_peak_mb": _mib(memory.get("unit_peak")),
        "memory_limit_mb": _mib(memory.get("limit")),
        "cycle_number": _number(end.get("cycle")),
    }


def _lost(run: Run, id: str, node: str, life: int) -> list[dict[str, Any]]:
    """The life of an instance that lived when its node fell silent and was not heard of since, by the run's events."""
    status, lost, launched = "PENDING", None, None
    for event in run.events():
        kind = event["event"]
        if kind == "launched" and event.get("instance") == f"{id}@{node}":
            launched = event["time"]
        elif kind == "status" and event.get("instance") == id:
            status, lost = event["status"], None
        elif kind == "node_lost" and event.get("node") == node:
            lost = event
        elif kind == "collected" and event["statuses"].get(id, "LOST") != "LOST":
            status, lost = event["statuses"][id], None
    if lost is None or status not in HOLDING:
        return []
    ended = datetime.fromisoformat(lost.get("last_heard", lost["time"]))
    began = datetime.fromisoformat(launched) if launched and life == 1 else None  # nobody told when a later one began
    end = {
        "unit": "workload",
        "time": ledger.moment(ended.timestamp()),
        "started_at": began and ledger.moment(began.timestamp()),
        "lived_seconds": began and round(max(0.0, (ended - began).total_seconds()), 3),
        "cause": ledger.NODE_LOST,
    }
    return [{**_life(end, node), "life": life, ROWID: None}]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None


def _mib(value: Any) -> float | None:
    number = _number(value)
    return None if number is None else round(number / MIB, 1)
