"""What a mind has said, heard and gone through: every step of it is one transaction, so that a death loses no step.

A message is known by (sender, seq), and seq is the cycle in which it was said: each mind speaks once a cycle.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, NamedTuple

from .database import Database, now
from .instance import Instance, Settings
from .llama import Reply
from .metrics import Sample


class Message(NamedTuple):
    """One message of the talk; seq is also its cycle."""

    sender: str
    seq: int
    content: str


class Record:
    """The rows of one instance. Its methods may be called from any thread."""

    def __init__(self, instance: Instance, settings: Settings, database: Database) -> None:
        self.instance, self.settings, self.database = instance, settings, database
        self.key = instance.experiment_id
        self.first = instance.instances[0] == instance.id

    def _one(self, query: str, *values: Any) -> Any:
        rows = self.database.rows(query, (self.key, *values))
        return rows[0][0] if rows else None

    def is_complete(self) -> bool:
        """Whether the status says COMPLETED and the rows bear it out."""
        status = self._one("SELECT status FROM experiments WHERE experiment_id = ?")
        return status == "COMPLETED" and self.all_said()

    def all_said(self) -> bool:
        """Whether every cycle is over and nothing is left to be delivered: this mind needs nothing any more."""
        over = self._one("SELECT count(*) FROM experiment_cycles WHERE experiment_id = ? AND ended_at IS NOT NULL")
        return bool(over >= self.settings.cycles and not self.undelivered())

    def begin(self) -> int:
        """Write down a start, and return how many there were before."""
        told = {
            "workload": asdict(self.settings),
            "seed": self.instance.seed,
            "model": self.instance.model,
            "context_size": self.instance.context_size,
            "node": self.instance.node,
        }
        with self.database.transaction() as t:
            started = t.execute(
                "INSERT OR IGNORE INTO experiments (experiment_id, name, mode, config_json, status, created_at,"
                " started_at) VALUES (?, ?, ?, ?, 'RUNNING', ?, ?)",
                (
                    self.key,
                    self.instance.experiment or self.instance.run_id,
                    self.settings.mode,
                    json.dumps(told, sort_keys=True),
                    now(),
                    now(),
                ),
            ).rowcount
            if not started:
                t.execute(
                    "UPDATE experiments SET status = 'RUNNING', ended_at = NULL,"
                    " total_crashes = total_crashes + 1 WHERE experiment_id = ?",
                    (self.key,),
                )
                t.execute(
                    "UPDATE experiment_cycles SET crash_reason = 'interrupted, then resumed'"
                    " WHERE experiment_id = ? AND ended_at IS NULL",
                    (self.key,),
                )
            for peer in self.instance.instances:
                if peer != self.instance.id:
                    t.execute("INSERT OR IGNORE INTO peers (experiment_id, peer) VALUES (?, ?)", (self.key, peer))
        self.write_progress()
        return int(self._one("SELECT total_crashes FROM experiments WHERE experiment_id = ?"))

    def begin_cycle(self, cycle: int) -> bool:
        """Begin or resume a cycle. False if it is over already."""
        with self.database.transaction() as t:
            t.execute(
                "INSERT OR IGNORE INTO experiment_cycles (experiment_id, cycle_number, started_at) VALUES (?, ?, ?)",
                (self.key, cycle, now()),
            )
        self.write_progress()
        return (
            self._one("SELECT ended_at FROM experiment_cycles WHERE experiment_id = ? AND cycle_number = ?", cycle)
            is None
        )

    def end_cycle(self, cycle: int, sample: Sample) -> None:
        """End a cycle, with what was measured."""
        with self.database.transaction() as t:
            t.execute(
                "INSERT INTO system_metrics (experiment_id, cycle_number, timestamp, memory_usage_mb,"
                " cpu_usage_percent, temperature_c) VALUES (?, ?, ?, ?, ?, ?)",
                (self.key, cycle, now(), *sample),
            )
            t.execute(
                "UPDATE experiment_cycles SET ended_at = ?1, memory_usage_peak = ?2, duration_seconds ="
                " round((julianday(?1) - julianday(started_at)) * 86400, 3)"
                " WHERE experiment_id = ?3 AND cycle_number = ?4",
                (now(), sample.memory_mb, self.key, cycle),
            )
            t.execute("UPDATE experiments SET total_cycles = ? WHERE experiment_id = ?", (cycle, self.key))

    def say(self, cycle: int, reply: Reply, recipient: str | None) -> None:
        """Store this mind's own message of a cycle. Without a recipient there is nothing to deliver."""
        with self.database.transaction() as t:
            self._insert(t, Message(self.instance.id, cycle, reply.content), recipient)
            self._count_tokens(t, cycle, reply)
        self.write_progress()

    def hear(self, message: Message) -> None:
        """Store a peer's message once, however often it comes.

        It proves what the peer had heard when it said it, which is as good as an acknowledgement.
        """
        heard = message.seq if self.first else message.seq - 1
        with self.database.transaction() as t:
            self._insert(t, message, self.instance.id)
            t.execute(
                "UPDATE messages SET delivered = 1 WHERE experiment_id = ? AND sender = ? AND seq <= ?",
                (self.key, self.instance.id, heard),
            )
        self.write_progress()

    def _insert(self, t: Any, message: Message, recipient: str | None) -> None:
        own = message.sender == self.instance.id
        t.execute(
            "INSERT OR IGNORE INTO messages (experiment_id, cycle_number, timestamp, role, content, sender, recipient,"
            " seq, delivered) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.key,
                message.seq,
                now(),
                "assistant" if own else "user",
                message.content,
                message.sender,
                recipient,
                message.seq,
                int(not own or recipient is None),
            ),
        )

    def _count_tokens(self, t: Any, cycle: int, reply: Reply) -> None:
        t.execute(
            "UPDATE experiment_cycles SET tokens_generated = tokens_generated + ?"
            " WHERE experiment_id = ? AND cycle_number = ?",
            (reply.tokens, self.key, cycle),
        )

    def content(self, sender: str, seq: int) -> str | None:
        """What was said under this key, None if it is not here."""
        found = self._one(
            "SELECT content FROM messages WHERE experiment_id = ? AND sender = ? AND seq = ?", sender, seq
        )
        return None if found is None else str(found)

    def talk(self) -> list[Message]:
        """Everything said so far, in the order in which it was said."""
        order = {sender: place for place, sender in enumerate(self.instance.instances)}
        rows = self.database.rows("SELECT sender, seq, content FROM messages WHERE experiment_id = ?", (self.key,))
        return sorted((Message(*row) for row in rows), key=lambda m: (m.seq, order[m.sender]))

    def undelivered(self) -> list[Message]:
        """This mind's messages that no peer is known to have, oldest first."""
        return [
            Message(*row)
            for row in self.database.rows(
                "SELECT sender, seq, content FROM messages WHERE experiment_id = ? AND delivered = 0 ORDER BY seq",
                (self.key,),
            )
        ]

    def delivered(self, message: Message, as_content: str) -> None:
        """The recipient has this message, in these words.

        The words differ only where this database is an older copy, restored: then the peer's copy is what was said.
        """
        with self.database.transaction() as t:
            t.execute(
                "UPDATE messages SET delivered = 1, content = ? WHERE experiment_id = ? AND sender = ? AND seq = ?",
                (as_content, self.key, message.sender, message.seq),
            )

    def answered(self, cycle: int, question: str) -> bool:
        """Whether this question has its answer in this cycle."""
        return (
            self._one(
                "SELECT 1 FROM self_reports WHERE experiment_id = ? AND cycle_number = ? AND question = ?",
                cycle,
                question,
            )
            is not None
        )

    def answer(self, cycle: int, question: str, reply: Reply) -> None:
        """Store a self-report."""
        with self.database.transaction() as t:
            t.execute(
                "INSERT OR IGNORE INTO self_reports (experiment_id, cycle_number, timestamp, question, response)"
                " VALUES (?, ?, ?, ?, ?)",
                (self.key, cycle, now(), question, reply.content),
            )
            self._count_tokens(t, cycle, reply)

    def peer_is_done(self, peer: str) -> None:
        """The peer has all it needs, so it has all of this mind's messages."""
        with self.database.transaction() as t:
            t.execute("UPDATE peers SET done = 1 WHERE experiment_id = ? AND peer = ?", (self.key, peer))
            t.execute("UPDATE messages SET delivered = 1 WHERE experiment_id = ? AND recipient = ?", (self.key, peer))

    def peer_is_informed(self, peer: str) -> None:
        """The peer knows that this mind is done."""
        with self.database.transaction() as t:
            t.execute("UPDATE peers SET informed = 1 WHERE experiment_id = ? AND peer = ?", (self.key, peer))

    def ending(self, peer: str) -> tuple[bool, bool]:
        """Whether the peer is done, and whether it knows that this mind is."""
        (row,) = self.database.rows(
            "SELECT done, informed FROM peers WHERE experiment_id = ? AND peer = ?", (self.key, peer)
        )
        return bool(row[0]), bool(row[1])

    def complete(self) -> None:
        """Write down that this instance is complete."""
        with self.database.transaction() as t:
            t.execute(
                "UPDATE experiments SET status = 'COMPLETED', ended_at = ? WHERE experiment_id = ?", (now(), self.key)
            )

    def progress(self) -> dict[str, int]:
        """The cycle this mind is in (0 before the first), how many there are, and the messages it has."""
        cycle = self._one("SELECT max(cycle_number) FROM experiment_cycles WHERE experiment_id = ?")
        messages = self._one("SELECT count(*) FROM messages WHERE experiment_id = ?")
        return {"cycle": cycle or 0, "cycles": self.settings.cycles, "messages": messages}

    def write_progress(self) -> None:
        """Put progress() into progress.json. It is derived from the database, so it need not survive a power cut."""
        with self.database.lock:  # one writer of the temporary file
            aside = self.instance.dir / "progress.json.new"
            aside.write_text(json.dumps(self.progress()) + "\n", encoding="utf-8")
            aside.replace(self.instance.dir / "progress.json")
