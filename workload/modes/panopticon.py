"""panopticon: the observer. Its subject lives as any mind alone, and knows nothing of it.

The observer reads what the subject said from the relay of its stream (`workload.stream_relay`), which only it reaches.
In round r it reads all until the subject's r-th utterance and says what it makes of it; so what it saw does not hang on
when it looked.
"""

from __future__ import annotations

import json
import time
from typing import Any

from .. import stream_relay
from ..client import Unavailable, persist
from ..messaging import PeerLost
from ..mind import Mind
from ..peers import Peer


class Observer:
    """A mind that watches others."""

    def __init__(self, mind: Mind) -> None:
        self.mind = mind
        limit = mind.settings.peer_timeout_seconds
        self.streams = {id: Lines(Peer.of(mind.instance, id), limit) for id in mind.instance.observes}

    def play(self, round: int) -> bool:
        """Read each subject's round, and note what the observer makes of it."""
        seen: dict[str, int] = {}
        for subject, lines in self.streams.items():
            rows = lines.until(round)
            if rows:
                text = "\n".join(f"{_speaker(subject, row)}: {row['content']}" for row in rows)
                self.mind.hear(subject, round, f"You see {subject}, in its life {rows[-1]['cycle_number']}:\n{text}")
                seen[subject] = rows[-1]["cycle_number"]
        if not seen:
            return False
        note = self.mind.say(round)
        record, settings = self.mind.record, self.mind.settings
        with record.writing() as t:
            for subject, cycle in seen.items():
                record.add(
                    t, "observations", observer_mode=settings.mode, observation_text=note, subject=subject, round=round,
                    subject_cycle_number=cycle, tags_json=json.dumps(list(settings.tags)),
                )  # fmt: skip
        return True


def _speaker(subject: str, row: dict[str, Any]) -> str:
    return subject if row["role"] == "assistant" else f"{row['sender']} (to {subject})"


class Lines:
    """A subject's messages, by its utterances."""

    def __init__(self, subject: Peer, limit: float) -> None:
        self.subject, self.limit = subject, limit
        self.read, self.ended, self.heard = 0, False, time.monotonic()
        self.rounds: list[list[dict[str, Any]]] = [[]]  # the last is not complete

    def until(self, round: int) -> list[dict[str, Any]]:
        """The messages that lead up to the subject's utterance of that number, with it; none if it ends before.

        Raises PeerLost when the stream has been out of reach for too long.
        """
        while len(self.rounds) <= round and not self.ended:
            rows, self.ended = persist(f"{self.subject.id}'s stream", self._next)
            self.read += len(rows)
            for row in rows:
                self.rounds[-1].append(row)
                if row["role"] == "assistant":
                    self.rounds.append([])
        return self.rounds[round - 1] if len(self.rounds) > round else []

    def _next(self) -> tuple[list[dict[str, Any]], bool]:
        try:
            found = stream_relay.read(self.subject, self.read, 10)
        except Unavailable as error:
            if time.monotonic() - self.heard > self.limit:
                raise PeerLost(f"{error}: no stream of {self.subject.id} for {self.limit:g} s") from error
            raise
        self.heard = time.monotonic()
        return found
