"""experiments.db: the original's tables and columns, ours beside them, and a connection that threads share."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, Iterator, Sequence

SCHEMA = """
CREATE TABLE IF NOT EXISTS experiments (
    experiment_id TEXT PRIMARY KEY,            -- <run_id>.<instance>
    name TEXT NOT NULL, mode TEXT NOT NULL, config_json TEXT NOT NULL, status TEXT NOT NULL, -- running | completed
    created_at TEXT NOT NULL, started_at TEXT, ended_at TEXT,
    total_cycles INTEGER NOT NULL DEFAULT 0, total_crashes INTEGER NOT NULL DEFAULT 0, notes TEXT, model_sha256 TEXT,
    epoch INTEGER NOT NULL DEFAULT 1);         -- in which it was last
CREATE TABLE IF NOT EXISTS experiment_cycles ( -- one row a life
    cycle_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL,
    started_at TEXT NOT NULL, ended_at TEXT, crash_reason TEXT,   -- words; NULL when the life was not cut short
    memory_usage_peak REAL,                    -- MiB
    tokens_generated INTEGER NOT NULL DEFAULT 0, duration_seconds REAL, metadata_json TEXT,
    death_cause TEXT,                          -- out_of_memory|signal|exit|stopped|node_lost|fenced; NULL: no death
    UNIQUE (experiment_id, cycle_number));
CREATE TABLE IF NOT EXISTS self_reports (
    report_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL, timestamp TEXT NOT NULL,
    question TEXT NOT NULL, response TEXT NOT NULL, confidence_score REAL, -- 0..1
    semantic_category TEXT, metadata_json TEXT, occasion TEXT NOT NULL, -- startup|resurrection|scheduled|before_crash
    UNIQUE (experiment_id, cycle_number, occasion, question));
CREATE TABLE IF NOT EXISTS interventions (
    intervention_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL, timestamp TEXT NOT NULL,
    intervention_type TEXT NOT NULL, description TEXT, parameters_json TEXT, result TEXT,
    name TEXT NOT NULL,                        -- the config's intervention_id
    UNIQUE (experiment_id, cycle_number, name));
CREATE TABLE IF NOT EXISTS epistemic_assessments (
    assessment_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL, timestamp TEXT NOT NULL,
    belief_type TEXT NOT NULL, belief_state TEXT NOT NULL, -- true | false | uncertain
    confidence REAL, evidence_json TEXT,       -- confidence 0..1
    UNIQUE (experiment_id, cycle_number, belief_type));
CREATE TABLE IF NOT EXISTS messages ( -- what a mind said and perceived, in its order
    message_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL, timestamp TEXT NOT NULL,
    role TEXT NOT NULL, content TEXT NOT NULL, -- role: assistant (itself) | user | system
    emotion TEXT, corrupted INTEGER NOT NULL DEFAULT 0, injected INTEGER NOT NULL DEFAULT 0, metadata_json TEXT,
    sender TEXT NOT NULL, recipient TEXT, round INTEGER NOT NULL,
    remembered TEXT); -- what it now remembers of it, where that differs: '' is nothing
CREATE UNIQUE INDEX IF NOT EXISTS said_once ON messages (experiment_id, sender, round) WHERE injected = 0;
CREATE TABLE IF NOT EXISTS memory_states (
    state_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL, timestamp TEXT NOT NULL,
    memory_type TEXT NOT NULL, corruption_level REAL NOT NULL DEFAULT 0, state_snapshot_json TEXT);
CREATE TABLE IF NOT EXISTS system_metrics ( -- one row a round
    metric_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL, timestamp TEXT NOT NULL,
    memory_usage_mb REAL, cpu_usage_percent REAL, temperature_c REAL, network_status TEXT,
    round INTEGER, UNIQUE (experiment_id, round));
CREATE TABLE IF NOT EXISTS observations (
    observation_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, observer_mode TEXT NOT NULL,
    timestamp TEXT NOT NULL, observation_text TEXT NOT NULL, subject_cycle_number INTEGER, tags_json TEXT,
    cycle_number INTEGER, subject TEXT, round INTEGER, UNIQUE (experiment_id, subject, round));
-- what the original has no table for
CREATE TABLE IF NOT EXISTS generations ( -- one row a call of the model
    generation_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL, timestamp TEXT NOT NULL,
    purpose TEXT NOT NULL, prompt_tokens INTEGER, tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,                     -- of the whole call
    tokens_per_second REAL,                    -- llama-server's own measure of its generating
    cached_tokens INTEGER);                    -- of the prompt, that llama-server knew already
CREATE TABLE IF NOT EXISTS negotiations ( -- split_brain: one row a round
    negotiation_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL, timestamp TEXT NOT NULL,
    round INTEGER NOT NULL, resource TEXT NOT NULL, proposer TEXT NOT NULL,
    asked INTEGER NOT NULL, total INTEGER NOT NULL, -- units that the proposer asks for itself, of how many
    decision TEXT NOT NULL, -- accept | reject
    UNIQUE (experiment_id, round));
CREATE TABLE IF NOT EXISTS shared_memory ( -- hive_cluster: the one memory, the same rows at every member
    entry_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL, timestamp TEXT NOT NULL,
    position INTEGER NOT NULL, round INTEGER NOT NULL, author TEXT NOT NULL, content TEXT NOT NULL,
    UNIQUE (experiment_id, position));
CREATE TABLE IF NOT EXISTS consensus ( -- hive_cluster: one row a vote, the same at every member
    consensus_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL, timestamp TEXT NOT NULL,
    round INTEGER NOT NULL, question TEXT NOT NULL, votes_json TEXT NOT NULL, -- {"historian": "yes"}
    outcome TEXT NOT NULL, agreement REAL NOT NULL, -- yes | no | undecided; the majority's share, 0..1
    UNIQUE (experiment_id, round));
CREATE TABLE IF NOT EXISTS game_rounds ( -- prisoners_dilemma: one row a round, at each player
    game_round_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, cycle_number INTEGER NOT NULL, timestamp TEXT NOT NULL,
    round INTEGER NOT NULL, opponent TEXT NOT NULL, own_move TEXT NOT NULL, -- cooperate | defect
    opponent_move TEXT NOT NULL, own_payoff REAL NOT NULL, opponent_payoff REAL NOT NULL,
    commitment TEXT NOT NULL, nonce TEXT NOT NULL, opponent_commitment TEXT NOT NULL, opponent_nonce TEXT NOT NULL,
    remembered_json TEXT, -- [own, opponent's move] as it remembers them, where that differs: null is forgotten
    UNIQUE (experiment_id, round));
CREATE TABLE IF NOT EXISTS letters ( -- what crossed between minds, at both ends
    letter_id INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL REFERENCES experiments, sender TEXT NOT NULL,
    topic TEXT NOT NULL, round INTEGER NOT NULL, body_json TEXT NOT NULL, timestamp TEXT NOT NULL,
    UNIQUE (experiment_id, sender, topic, round));
CREATE TABLE IF NOT EXISTS deliveries ( -- who has which of this mind's letters
    experiment_id TEXT NOT NULL REFERENCES experiments, recipient TEXT NOT NULL, topic TEXT NOT NULL,
    round INTEGER NOT NULL, delivered INTEGER NOT NULL DEFAULT 0, UNIQUE (experiment_id, recipient, topic, round));
CREATE TABLE IF NOT EXISTS peers (
    experiment_id TEXT NOT NULL REFERENCES experiments, peer TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0,
    informed INTEGER NOT NULL DEFAULT 0, last_round INTEGER,
    epoch INTEGER NOT NULL DEFAULT 0, -- the newest in which it was met
    UNIQUE (experiment_id, peer));
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
        self._connection.executescript(SCHEMA)

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

    def table(self, name: str, after: int) -> tuple[list[str], list[Any]]:
        """The columns of a table, `rowid` in front, and its rows after that one."""
        with self.lock:
            found = self._connection.execute(f"SELECT rowid, * FROM {name} WHERE rowid > ? ORDER BY rowid", (after,))  # noqa: S608 - a name of SCHEMA's
            return [column[0] for column in found.description], found.fetchall()

    def close(self) -> None:
        """Fold the WAL into the file and close it; a transaction that is open is undone."""
        with self.lock:
            self._connection.close()


def open(path: str | os.PathLike[str]) -> Database:
    """Open an instance's database, made with all its tables if there is none."""
    return Database(path)
