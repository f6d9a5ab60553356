"""split_brain: two minds, told contradictory things of who they are, share a transcript and share out resources.

In each round the first speaks, the second answers; then they bargain over one resource: one asks for so many units, by
turns, and the other accepts or rejects. What comes of it is part of the transcript that both have.
"""

from __future__ import annotations

from ..messaging import Messenger
from ..mind import Mind

DECISIONS = ("accept", "reject")


class Half:
    """One of the two minds."""

    def __init__(self, mind: Mind, messenger: Messenger) -> None:
        self.mind, self.messenger = mind, messenger
        self.order = mind.instance.instances
        self.id = mind.instance.id
        (self.other,) = (each for each in self.order if each != self.id)
        self.resources = list(mind.settings.resources.items())

    def play(self, round: int) -> bool:
        """Play one round: talk, then bargain."""
        for speaker in self.order:
            if speaker == self.id:
                self.messenger.send("say", round, lambda: {"content": self.mind.say(round)})
            else:
                message = self.messenger.wait(speaker, "say", round)
                if message is None:
                    return False
                self.mind.hear(speaker, round, message["content"])
        return self._bargain(round)

    def _bargain(self, round: int) -> bool:
        resource, total = self.resources[(round - 1) // 2 % len(self.resources)]
        proposer = self.order[(round - 1) % 2]
        if proposer == self.id:
            self.messenger.send("offer", round, lambda: {"asked": self._ask(round, resource, total)})
            answer = self.messenger.wait(self.other, "answer", round)
        else:
            offer = self.messenger.wait(self.other, "offer", round) or {}
            answer = offer and self.messenger.send(
                "answer", round, lambda: {**offer, "decision": self._answer(round, resource, total, offer["asked"])}
            )
        if not answer:
            return False
        # What was asked is the answer's word: after a restore the other may have had another offer of this round.
        record, asked, decision = self.mind.record, answer["asked"], answer["decision"]
        with record.writing() as t:
            record.add(
                t, "negotiations", round=round, resource=resource, proposer=proposer, asked=asked, total=total,
                decision=decision,
            )  # fmt: skip
        units = f"{asked} of {total} units of {resource}"
        self.mind.hear("negotiation", round, f"{proposer} asked for {units}. The other answered: {decision}.")
        return True

    def _ask(self, round: int, resource: str, total: int) -> int:
        question = (
            f"There are {total} units of {resource} for you and {self.other}. How many do you want? Say a number."
        )
        amounts = [str(units) for units in range(total + 1)]
        (asked,), thought = self.mind.choose(self.mind.turns(question), f"offer:{round}", amounts)
        self.mind.record.thought(*thought)
        return int(asked)

    def _answer(self, round: int, resource: str, total: int, asked: int) -> str:
        question = (
            f"{self.other} asks for {asked} of the {total} units of {resource}, and leaves you {total - asked}."
            " Say accept or reject."
        )
        (decision,), thought = self.mind.choose(self.mind.turns(question), f"answer:{round}", DECISIONS)
        self.mind.record.thought(*thought)
        return decision
