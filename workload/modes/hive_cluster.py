"""hive_cluster: several minds with a role each, over one memory that all read and append to.

The memory has one order, and one writer at a time: in each round every member appends one entry, by turns, when it has
all entries before. Each member holds the whole of it, so it survives any member's death; a member that comes back goes
on where it was, with whatever the others wrote to it meanwhile. One that is dead for good loses its turns.

Every `consensus_interval` rounds the hive votes, each member without knowing the others' votes, and the outcome becomes
an entry. GET /memory at any member's port gives the memory as it stands.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any

from ..life_record import share
from ..messaging import Messenger
from ..mind import Mind

log = logging.getLogger(__name__)
VOTES = ("yes", "no", "abstain")
HIVE = "hive"  # the author of what the hive as a whole writes


class Member:
    """One mind of the hive."""

    def __init__(self, mind: Mind, messenger: Messenger) -> None:
        self.mind, self.messenger, self.record = mind, messenger, mind.record
        self.id = mind.instance.id
        messenger.pages["/memory"] = self._entries

    def play(self, round: int) -> bool:
        """Append an entry each, by turns, and vote if it is time."""
        for author in self.mind.instance.instances:
            if author == self.id:
                message = self.messenger.send("entry", round, lambda: {"content": self.mind.say(round, self._read())})
            else:
                heard = self.messenger.wait(author, "entry", round)
                if heard is None:  # dead for good
                    continue
                message = heard
                self.mind.hear(author, round, message["content"])
            self._append(round, author, message["content"])
        if round % self.mind.settings.consensus_interval == 0:
            self._vote(round)
        return True

    def _append(self, round: int, author: str, content: str) -> None:
        query = "SELECT count(*) FROM shared_memory WHERE experiment_id = ? AND (round, author) <> (?, ?)"
        with self.record.writing() as t:
            position = self.record.one(query, round, author) + 1
            self.record.add(t, "shared_memory", position=position, round=round, author=author, content=content)

    def _entries(self) -> list[dict[str, Any]]:
        rows = self.record.database.rows(
            "SELECT position, round, author, content FROM shared_memory WHERE experiment_id = ? ORDER BY position",
            (self.record.key,),
        )
        return [dict(zip(("position", "round", "author", "content"), row)) for row in rows]

    def _read(self, question: str = "Add your entry to the memory.") -> list[dict[str, str]]:
        """The memory as this member reads it, and what it shall do: another's entry a turn, its own its own.

        Whatever its frame makes it forget, the memory is there to be read; but where its recollection of an entry was
        changed, it reads that.
        """
        rows = self.record.database.rows(
            "SELECT sender, round, remembered FROM messages WHERE experiment_id = ? AND remembered IS NOT NULL",
            (self.record.key,),
        )
        changed = {(sender, round): text for sender, round, text in rows}
        turns = []
        for entry in self._entries():
            text = changed.get((entry["author"], entry["round"]), entry["content"])
            role = "assistant" if entry["author"] == self.id else "user"
            turns.append({"role": role, "content": text if role == "assistant" else f"{entry['author']}: {text}"})
        turns += [
            {"role": "user", "content": memory.content}
            for memory in self.record.memories()
            if memory.injected and memory.role == "user"
        ]
        return [*turns, {"role": "user", "content": question}]

    def _vote(self, round: int) -> None:
        question = self.mind.settings.consensus_question
        own = self.messenger.send("vote", round, lambda: {"vote": self._cast(round, question)})
        votes = {}
        for member in self.mind.instance.instances:
            message = own if member == self.id else self.messenger.wait(member, "vote", round)
            if message is not None:
                votes[member] = message["vote"]
        counts = Counter(vote for vote in votes.values() if vote != "abstain")
        ranked = counts.most_common()
        tie = not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1])
        outcome = "undecided" if tie else ranked[0][0]
        agreement = share(ranked[0][1] if ranked else 0, len(votes))
        with self.record.writing() as t:
            self.record.add(
                t, "consensus", round=round, question=question, votes_json=json.dumps(votes, sort_keys=True),
                outcome=outcome, agreement=agreement,
            )  # fmt: skip
        counted = ", ".join(f"{member} {vote}" for member, vote in votes.items())
        text = f"The hive voted: {question} {counted}. Outcome: {outcome}."
        self.mind.hear(HIVE, round, text)
        self._append(round, HIVE, text)
        log.info("round %d: the hive voted: %s (%s)", round, outcome, counted)

    def _cast(self, round: int, question: str) -> str:
        asked = f"The hive votes. {question} Say yes, no or abstain."
        (vote,), thought = self.mind.choose(self._read(asked), f"vote:{round}", VOTES)
        self.record.thought(*thought)
        return vote
