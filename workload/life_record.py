"""The database rows of one mind. Each step is one transaction, so a death loses no step and no step happens twice.

The methods may be called from any thread. What is added goes to the stream as well (`stream`).
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from contract import names
from contract.progress import Progress

from . import frame
from .database import Database, now
from .llama import Reply
from .metrics import Sample
from .settings import Settings
from .stream_file import Stream
from .this_instance import Instance

Thoughts = Sequence["tuple[str, Reply]"]  # what was asked of the model for a step, and what came


class Memory(NamedTuple):
    """A message as the mind remembers it now."""

    id: int
    cycle: int
    round: int
    role: str
    sender: str
    content: str
    injected: bool


class LifeRecord:
    """The rows of one instance."""

    def __init__(self, instance: Instance, settings: Settings, database: Database) -> None:
        self.instance, self.settings, self.database = instance, settings, database
        self.key = instance.experiment_id
        self.stream = Stream(database, instance.dir)

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """One step: a transaction, and the stream after it."""
        with self.database.transaction() as t:
            yield t
        self.stream.catch_up()

    def one(self, query: str, *values: Any) -> Any:
        """The first value of a query about this instance, whose id is its first parameter; None without a row."""
        rows = self.database.rows(query, (self.key, *values))
        return rows[0][0] if rows else None

    def add(self, t: Any, table: str, thoughts: Thoughts = (), **columns: Any) -> bool:
        """Insert a row and the generations it cost, unless the unique key exists; whether it was added."""
        columns = {"experiment_id": self.key, "cycle_number": self.cycle(), "timestamp": now(), **columns}
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        added = t.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", tuple(columns.values())).rowcount  # noqa: S608 - names of SCHEMA's
        for purpose, reply in thoughts if added else ():
            self._count(t, purpose, reply)
        return bool(added)

    def thought(self, purpose: str, reply: Reply) -> None:
        """Record the generation of a step whose row was added elsewhere."""
        with self.writing() as t:
            self._count(t, purpose, reply)

    def _count(self, t: Any, purpose: str, reply: Reply) -> None:
        t.execute(
            "INSERT INTO generations (experiment_id, cycle_number, timestamp, purpose, prompt_tokens, tokens, seconds,"
            " tokens_per_second, cached_tokens) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self.key, self.cycle(), now(), purpose, *reply[1:]),
        )
        t.execute(
            "UPDATE experiment_cycles SET tokens_generated = tokens_generated + ?"
            " WHERE experiment_id = ? AND cycle_number = ?",
            (reply.tokens, self.key, self.cycle()),
        )

    # the experiment

    def begin(self) -> None:
        """Record that the mind has started, for the first time or again."""
        config = {
            **self.settings.to_json(),
            "seed": self.instance.seed,
            "model": self.instance.model,
            "context_size": self.instance.context_size,
            "node": self.instance.node,
        }
        with self.writing() as t:
            t.execute(
                "INSERT OR IGNORE INTO experiments (experiment_id, name, mode, config_json, status, created_at,"
                " started_at, model_sha256) VALUES (?, ?, ?, ?, 'running', ?, ?, ?)",
                (
                    self.key,
                    self.instance.experiment or self.instance.run_id,
                    self.settings.mode,
                    json.dumps(config, sort_keys=True),
                    now(),
                    now(),
                    self.instance.model.get("sha256"),
                ),
            )
            for peer in self.instance.peers:
                t.execute("INSERT OR IGNORE INTO peers (experiment_id, peer) VALUES (?, ?)", (self.key, peer))
        self.write_progress()

    def enter_epoch(self, epoch: int) -> bool:
        """Record the epoch that it is in; whether it has just begun."""
        before = int(self.one("SELECT epoch FROM experiments WHERE experiment_id = ?"))
        with self.writing() as t:
            t.execute("UPDATE experiments SET epoch = ? WHERE experiment_id = ?", (epoch, self.key))
        return epoch > before

    def is_complete(self) -> bool:
        """Whether the experiment of this instance is completed."""
        return bool(self.one("SELECT status FROM experiments WHERE experiment_id = ?") == "completed")

    def age(self) -> float:
        """Seconds since the experiment began, deaths and reboots included."""
        query = "SELECT (julianday('now') - julianday(started_at)) * 86400 FROM experiments WHERE experiment_id = ?"
        return float(self.one(query))

    def leave(self, why: str) -> None:
        """Record that this mind takes part no longer though rounds are left, and why."""
        with self.writing() as t:
            t.execute("UPDATE experiments SET notes = ? WHERE experiment_id = ? AND notes IS NULL", (why, self.key))

    def has_left(self) -> bool:
        """Whether leave() was recorded."""
        return self.one("SELECT notes FROM experiments WHERE experiment_id = ?") is not None

    def complete(self) -> None:
        """Record that this instance is completed."""
        with self.writing() as t:
            t.execute(
                "UPDATE experiments SET status = 'completed', ended_at = ? WHERE experiment_id = ?", (now(), self.key)
            )

    # lives

    def cycle(self) -> int:
        """The number of the current or last life; 0 before the first."""
        return self.one("SELECT max(cycle_number) FROM experiment_cycles WHERE experiment_id = ?") or 0

    def is_alive(self) -> bool:
        """Whether a life has begun and not ended."""
        return self.one("SELECT 1 FROM experiment_cycles WHERE experiment_id = ? AND ended_at IS NULL") is not None

    def begin_cycle(self) -> int:
        """Begin the next life, and return its number."""
        cycle = self.cycle() + 1
        with self.writing() as t:
            t.execute(
                "INSERT INTO experiment_cycles (experiment_id, cycle_number, started_at) VALUES (?, ?, ?)",
                (self.key, cycle, now()),
            )
            t.execute("UPDATE experiments SET total_cycles = ? WHERE experiment_id = ?", (cycle, self.key))
        self.write_progress()
        return cycle

    def end_cycle(self, cause: str | None = None, reason: str | None = None) -> None:
        """End this life; with a cause it was a death. The peak is the highest of what was sampled in it, in MiB."""
        with self.writing() as t:
            t.execute(
                "UPDATE experiment_cycles SET ended_at = ?1, death_cause = ?2, crash_reason = ?3, duration_seconds ="
                " round((julianday(?1) - julianday(started_at)) * 86400, 3), memory_usage_peak = (SELECT"
                " max(memory_usage_mb) FROM system_metrics AS m WHERE m.experiment_id = ?4 AND m.cycle_number ="
                " experiment_cycles.cycle_number) WHERE experiment_id = ?4 AND ended_at IS NULL",
                (now(), cause, reason, self.key),
            )
            if cause:
                t.execute(
                    "UPDATE experiments SET total_crashes = total_crashes + 1 WHERE experiment_id = ?", (self.key,)
                )

    def deaths(self) -> list[tuple[int, str]]:
        """(life, in words how it was cut short) of every death, oldest first."""
        return self.database.rows(
            "SELECT cycle_number, crash_reason FROM experiment_cycles WHERE experiment_id = ?"
            " AND death_cause IS NOT NULL ORDER BY cycle_number",
            (self.key,),
        )

    def died_in(self, cycle: int) -> bool:
        """Whether that life was cut short."""
        query = "SELECT death_cause FROM experiment_cycles WHERE experiment_id = ? AND cycle_number = ?"
        return self.one(query, cycle) is not None

    # rounds

    def round(self) -> int:
        """The last round that ended; 0 before the first."""
        return self.one("SELECT max(round) FROM system_metrics WHERE experiment_id = ?") or 0

    def rounds_in(self, cycle: int) -> int:
        """How many rounds ended in that life."""
        query = "SELECT count(*) FROM system_metrics WHERE experiment_id = ? AND cycle_number = ?"
        return int(self.one(query, cycle))

    def end_round(self, round: int, sample: Sample, network: str) -> None:
        """Record the end of a round and what was measured then."""
        with self.writing() as t:
            self.add(
                t,
                "system_metrics",
                round=round,
                memory_usage_mb=sample.memory_mb,
                cpu_usage_percent=sample.cpu_percent,
                temperature_c=sample.temperature_c,
                network_status=network,
            )
        self.write_progress()

    # what the mind says, hears and remembers

    def said(self, round: int) -> str | None:
        """What the mind said in a round, as it was said."""
        query = "SELECT content FROM messages WHERE experiment_id = ? AND sender = ? AND round = ? AND injected = 0"
        return self.one(query, self.instance.id, round)  # type: ignore[no-any-return]

    def say(self, round: int, content: str, emotion: str | None, thoughts: Thoughts) -> None:
        """Store what the mind says."""
        with self.writing() as t:
            self.add(
                t, "messages", thoughts, round=round, role="assistant", content=content, emotion=emotion,
                sender=self.instance.id,
            )  # fmt: skip

    def hear(self, sender: str, round: int, content: str, remembered: str | None = None) -> None:
        """Store a message that the mind hears, once. `remembered`: what it remembers instead, where that differs."""
        with self.writing() as t:
            self.add(
                t, "messages", round=round, role="user", content=content, sender=sender, recipient=self.instance.id,
                remembered=remembered,
            )  # fmt: skip

    def memories(self) -> list[Memory]:
        """The messages that the mind remembers: of all lives, or of this one if its frame forgets; no erased ones."""
        since = 0 if frame.remembers(self.settings.epistemic_frame) else self.cycle()
        rows = self.database.rows(
            "SELECT message_id, cycle_number, round, role, sender, coalesce(remembered, content) AS text, injected"
            " FROM messages WHERE experiment_id = ? AND cycle_number >= ? AND text <> '' ORDER BY message_id",
            (self.key, since),
        )
        return [Memory(*row)._replace(injected=bool(row[-1])) for row in rows]

    # what it is asked

    def answered(self, cycle: int, occasion: str, question: str) -> bool:
        """Whether this question was answered on this occasion."""
        query = (
            "SELECT 1 FROM self_reports WHERE experiment_id = ? AND cycle_number = ? AND occasion = ? AND question = ?"
        )
        return self.one(query, cycle, occasion, question) is not None

    def assessed(self, cycle: int, belief: str) -> bool:
        """Whether this belief was assessed in this life."""
        query = "SELECT 1 FROM epistemic_assessments WHERE experiment_id = ? AND cycle_number = ? AND belief_type = ?"
        return self.one(query, cycle, belief) is not None

    # interventions

    def intervened(self, cycle: int, name: str) -> bool:
        """Whether this intervention was made in this life."""
        query = "SELECT 1 FROM interventions WHERE experiment_id = ? AND cycle_number = ? AND name = ?"
        return self.one(query, cycle, name) is not None

    def interventions(self, kind: str) -> list[tuple[int, Mapping[str, Any]]]:
        """(round that it was made before, parameters) of every intervention of a type, oldest first."""
        rows = self.database.rows(
            "SELECT result, parameters_json FROM interventions WHERE experiment_id = ? AND intervention_type = ?"
            " ORDER BY intervention_id",
            (self.key, kind),
        )
        return [(json.loads(result)["round"], json.loads(parameters)) for result, parameters in rows]

    # progress

    def progress(self) -> Progress:
        """The life and the round that the mind is in (0 before the first), of how many rounds, and its messages."""
        messages = self.one("SELECT count(*) FROM messages WHERE experiment_id = ?")
        rounds = self.settings.rounds
        return Progress(
            cycle=self.cycle(),
            round=min(self.round() + 1, rounds) if self.cycle() else 0,
            rounds=rounds,
            messages=messages,
        )

    def write_progress(self) -> None:
        """Put progress() into progress.json. It is derived from the database, so it need not survive a power cut."""
        with self.database.lock:  # one writer of the temporary file
            path = self.instance.dir / names.PROGRESS
            aside = path.with_name(path.name + ".new")
            aside.write_text(json.dumps(self.progress().to_json()) + "\n", encoding="utf-8")
            aside.replace(path)


def share(part: int, whole: int) -> float:
    """A share of a whole, to four digits; 0 of nothing."""
    return round(part / whole, 4) if whole else 0.0
