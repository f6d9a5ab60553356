"""panopticon: the observer. Its subject lives as any mind alone, and knows nothing of it.

The observer reads what the subject said from a tap on the subject's stream (`workload.tap`), which only it can reach.
In round r it reads all until the subject's r-th utterance and says what it makes of it; so what it saw does not hang on
when it looked.
"""

from __future__ import annotations

import json
from typing import Any, Iterator

from .. import tap
from ..client import persist
from ..mind import Mind


class Observer:
    """A mind that watches others."""

    def __init__(self, mind: Mind) -> None:
        self.mind = mind
        self.streams = {subject: Lines(subject, url) for subject, url in mind.instance.observes.items()}

    def play(self, round: int) -> bool:
        """See each subject's round, and note what it means."""
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

    def __init__(self, subject: str, url: str) -> None:
        self.subject, self.url = subject, url
        self.read, self.rounds = 0, [[]]  # type: ignore[var-annotated]
        self.ended = False

    def until(self, round: int) -> list[dict[str, Any]]:
        """The messages that lead up to the subject's utterance of that number, with it; none if it ends before."""
        while len(self.rounds) <= round and not self.ended:
            for row in self._next():
                self.rounds[-1].append(row)
                if row["role"] == "assistant":
                    self.rounds.append([])
        return self.rounds[round - 1] if len(self.rounds) > round else []

    def _next(self) -> Iterator[dict[str, Any]]:
        rows, self.ended = persist(f"{self.subject}'s stream", lambda: tap.read(self.url, self.read, 10))
        self.read += len(rows)
        return iter(rows)
