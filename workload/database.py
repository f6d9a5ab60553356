"""experiments.db: the original's tables, as far as they are written, and a connection that threads share."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, Iterator, Sequence

SCHEMA = """
CREATE TABLE IF NOT EXISTS experiments (
    experiment_id TEXT PRIMARY KEY, name TEXT NOT NULL, mode TEXT NOT NULL, config_json TEXT NOT NULL,
    status TEXT NOT NULL, created_at TEXT NOT NULL, started_at TEXT, ended_at TEXT,
    total_cycles INTEGER NOT NULL DEFAULT 0, total_crashes INTEGER NOT NULL DEFAULT 0, notes TEXT);
CREATE TABLE IF NOT EXISTS experiment_cycles (
    cycle_id INTEGER PRIMARY KEY, experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL,
    started_at TEXT NOT NULL, ended_at TEXT, crash_reason TEXT, memory_usage_peak REAL,
    tokens_generated INTEGER NOT NULL DEFAULT 0, duration_seconds REAL, metadata_json TEXT,
    UNIQUE (experiment_id, cycle_number));
CREATE TABLE IF NOT EXISTS self_reports (
    report_id INTEGER PRIMARY KEY, experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL,
    timestamp TEXT NOT NULL, question TEXT NOT NULL, response TEXT NOT NULL, confidence_score REAL,
    semantic_category TEXT, UNIQUE (experiment_id, cycle_number, question));
CREATE TABLE IF NOT EXISTS messages (
    message_id INTEGER PRIMARY KEY, experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL,
    timestamp TEXT NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL, emotion TEXT,
    corrupted INTEGER NOT NULL DEFAULT 0, injected INTEGER NOT NULL DEFAULT 0,
    sender TEXT NOT NULL, recipient TEXT, seq INTEGER NOT NULL, delivered INTEGER NOT NULL DEFAULT 0,
    UNIQUE (experiment_id, sender, seq));
CREATE TABLE IF NOT EXISTS system_metrics (
    metric_id INTEGER PRIMARY KEY, experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL,
    timestamp TEXT NOT NULL, memory_usage_mb REAL, cpu_usage_percent REAL, temperature_c REAL, network_status TEXT);
CREATE TABLE IF NOT EXISTS peers (
    experiment_id TEXT NOT NULL REFERENCES experiments, peer TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0,
    informed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (experiment_id, peer));
"""


def now() -> str:
    """The time as the tables hold it: ISO 8601, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


class Database:
    """One connection, used by one thread at a time."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Reentrant, so that a signal's handler can close the database wherever it interrupts the main thread.
        self.lock = threading.RLock()
        self._connection = sqlite3.connect(str(path), timeout=30, isolation_level=None, check_same_thread=False)
        # WAL: readers (status, fetch) never stop the writer. FULL: a commit is on the disk before the next step is
        # taken. Under NORMAL a power cut could take back a message that was already acknowledged to its sender.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        with self.transaction() as connection:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is executed on the connection given, or nothing of it."""
        with self.lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query, as tuples."""
        with self.lock:
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Fold the WAL into the file and close it; a transaction that is open is undone."""
        with self.lock:
            self._connection.close()


def open(path: str | os.PathLike[str]) -> Database:
    """Open an instance's database, made with all its tables if there is none."""
    return Database(path)
