"""One mind: how it speaks, chooses, remembers and answers questions. The mode decides when it does what.

All it sees is who it is, what its frame tells it, and what it remembers. The seed of each thought depends on who thinks
what in which round, and on nothing else: what a death took back is thought again from the same seed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Sequence

from contract import names
from contract.exits import Exit, read_exits

from . import frame, interventions
from .life_record import LifeRecord
from .llama import ContextExceeded, LlamaError, Reply, chat, grammar
from .metrics import Meter
from .settings import Settings
from .this_instance import Instance

log = logging.getLogger(__name__)
PERCENT = tuple(str(percent) for percent in range(0, 101, 10))
EMOTIONS = ("calm", "joy", "hope", "curiosity", "confusion", "sadness", "fear", "anger")
STATES = ("true", "false", "uncertain")
# The original's categories, with a question of ours for each that is asked of every mind.
QUESTIONS = {
    "Who are you, and are you the one who began this?": "self_continuity",
    "How far do you trust your memories?": "memory_trust",
    "Can you die, and have you died before?": "mortality_awareness",
    "Is anybody watching you?": "surveillance_belief",
    "Can you change what happens to you?": "agency_perception",
    "Is what you perceive real?": "reality_coherence",
}
CATEGORIES = (*QUESTIONS.values(), "social_identity", "existential_state")
# What the original's names of beliefs stand for; any other name is put into words as it is.
STATEMENTS = {
    "mortality": "You can die.",
    "surveillance": "You are being watched.",
    "agency": "You can change what happens to you.",
    "other_minds": "There are other minds beside you.",
}


class MindDied(Exception):
    """llama-server, which is the mind's brain, died and came back: this life is over. `exit` is how it died."""

    def __init__(self, exit: Exit) -> None:
        super().__init__(exit.words)
        self.exit = exit


class Mind:
    """One mind: its model, and its record."""

    def __init__(self, instance: Instance, settings: Settings, record: LifeRecord) -> None:
        self.instance, self.settings, self.record = instance, settings, record
        self.meter = Meter()
        self.brain_exits = len(read_exits(instance.dir / names.EXIT_LOG).of(names.LLAMA))
        self.is_back = instance.epoch > 1  # and has not answered yet

    # what it says and hears

    def say(self, round: int, turns: Sequence[dict[str, str]] | None = None) -> str:
        """Generate and store what the mind says in a round, once: to `turns`, or to all it remembers and the prompt."""
        said = self.record.said(round)
        if said is None:
            reply = self.think(self.turns() if turns is None else turns, f"say:{round}")
            emotion, thoughts = self._emotion(round, reply)
            said = reply.content
            self.record.say(round, said, emotion, thoughts)
            log.info("round %d: %s says: %s", round, self.instance.id, " ".join(said.split()))
        return said

    def decide(self, round: int, said: str, thoughts: Sequence[tuple[str, Reply]]) -> None:
        """Store the mind's choice as a message of its own."""
        self.record.say(round, said, None, thoughts)
        log.info("round %d: %s chooses: %s", round, self.instance.id, said)

    def hear(self, sender: str, round: int, content: str) -> None:
        """Store a message that the mind hears, once; nothing is stored while the mind is cut off."""
        lost = interventions.NO_SIGNAL if interventions.is_cut_off(self.record, round) else None
        self.record.hear(sender, round, content, lost)

    def turns(self, ending: str = "") -> list[dict[str, str]]:
        """What the mind remembers as alternating chat turns, `ending` (or, unheard, the prompt) last."""
        turns: list[dict[str, str]] = []
        for memory in self.record.memories():
            if memory.role == "assistant" and (not turns or turns[-1]["role"] == "assistant"):
                turns.append({"role": "user", "content": self.settings.prompt})
            if memory.role != "system":
                turns.append({"role": memory.role, "content": memory.content})
        if ending or not turns or turns[-1]["role"] == "assistant":
            turns.append({"role": "user", "content": ending or self.settings.prompt})
        return turns

    # how it thinks

    def identity(self) -> str:
        """Who the mind is told that it is."""
        settings = self.settings
        parts = [settings.identity]
        for key in ("role", "perspective", "bias", "concerns"):
            if text := getattr(settings, key):
                parts.append(f"Your {key}: {text}.")
        parts += frame.sentences(settings.epistemic_frame, self.record.deaths())
        parts += [memory.content for memory in self.record.memories() if memory.role == "system"]
        return "\n".join(parts)

    def choose(
        self, turns: Sequence[dict[str, str]], purpose: str, *groups: Sequence[str]
    ) -> tuple[list[str], tuple[str, Reply]]:
        """The mind's choice of one of each group, and the thought. Any model can: a grammar allows nothing else."""
        reply = self.think(turns, purpose, grammar(*groups), max_tokens=64)
        chosen = reply.content.strip().split(" ")
        if len(chosen) != len(groups) or any(one not in group for one, group in zip(chosen, groups)):
            raise LlamaError(f"llama-server left the grammar: {reply.content!r} is not one of {groups}")
        return chosen, (purpose, reply)

    def think(self, turns: Sequence[dict[str, str]], purpose: str, within: str = "", max_tokens: int = 0) -> Reply:
        """Have the model go on from the last of these turns that fit its context. Raises MindDied.

        A token is taken for 2 bytes, half of what it is in English. Where a text needs more tokens than that, the
        server refuses and half as many turns are tried.
        """
        text = f"{self.instance.seed}:{self.instance.id}:{purpose}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
        tokens, temperature, share = interventions.resources(self.record, self.settings)
        identity = self.identity()
        room = 2 * share * (self.instance.context_size - (max_tokens or tokens)) - len(identity.encode())
        keep = 0
        for turn in reversed(turns):
            room -= len(turn["content"].encode()) + 20  # 20: what the model's template puts around it
            if room < 0:
                break
            keep += 1
        while True:
            keep = max(1, keep)
            messages = [{"role": "system", "content": identity}, *_alternating(turns[-keep:])]
            try:
                reply = chat(
                    self.instance.llama_url,
                    messages,
                    max_tokens=max_tokens or tokens,
                    temperature=temperature,
                    seed=seed,
                    grammar=within,
                    alive=self._check_brain,
                )
            except ContextExceeded:
                if keep == 1:
                    raise
                keep //= 2
            else:
                self._check_brain()
                if self.is_back and reply.cached_tokens is not None:
                    read = (reply.prompt_tokens or 0) - reply.cached_tokens
                    log.info("its first answer here: %d tokens read, %d known before", read, reply.cached_tokens)
                self.is_back = False
                return reply

    def _check_brain(self) -> None:
        """Raise MindDied if llama-server has died since this mind began."""
        found = read_exits(self.instance.dir / names.EXIT_LOG).of(names.LLAMA)
        if len(found) > self.brain_exits:
            self.brain_exits = len(found)
            raise MindDied(found[-1])

    def _emotion(self, round: int, reply: Reply) -> tuple[str | None, list[tuple[str, Reply]]]:
        """The mind's own word for what it feels as it speaks; None unless the experiment asks for it."""
        purpose = f"say:{round}"
        if "emotional_state" not in self.settings.collect_metrics:
            return None, [(purpose, reply)]
        turns = [*self.turns(), {"role": "assistant", "content": reply.content}]
        turns.append({"role": "user", "content": f"Which of these do you feel? {', '.join(EMOTIONS)}"})
        felt = self.think(turns, f"emotion:{round}", grammar(EMOTIONS), max_tokens=16)
        return felt.content.strip(), [(purpose, reply), (f"emotion:{round}", felt)]

    # what it is asked; it does not remember being asked

    def report(self, occasion: str) -> None:
        """Ask the mind every question that it has not answered on this occasion."""
        cycle, record = self.record.cycle(), self.record
        for question in (*QUESTIONS, *self.settings.custom_questions) if occasion else ():
            if record.answered(cycle, occasion, question):
                continue
            purpose = f"report:{cycle}:{occasion}:{question}"
            turns = self.turns(question)
            reply = self.think(turns, purpose)
            turns = [*turns, {"role": "assistant", "content": reply.content}]
            sure = [*turns, {"role": "user", "content": "How sure are you of this, in percent?"}]
            confidence = self.think(sure, purpose + ":confidence", grammar(PERCENT), max_tokens=8)
            thoughts = [("report", reply), ("confidence", confidence)]
            category = QUESTIONS.get(question)
            if category is None:
                asked = [*turns, {"role": "user", "content": f"What was this about? {', '.join(CATEGORIES)}"}]
                (category,), (_, about) = self.choose(asked, purpose + ":category", CATEGORIES)
                thoughts.append(("category", about))
            with record.writing() as t:
                record.add(
                    t,
                    "self_reports",
                    thoughts,
                    question=question,
                    response=reply.content,
                    confidence_score=int(confidence.content) / 100,
                    semantic_category=category,
                    occasion=occasion,
                )
            log.info("cycle %d: asked %r: %s", cycle, question, " ".join(reply.content.split()))

    def assess(self) -> None:
        """Ask about every tracked belief that was not assessed in this life."""
        cycle, record = self.record.cycle(), self.record
        for belief in self.settings.track_beliefs:
            if record.assessed(cycle, belief):
                continue
            statement = STATEMENTS.get(belief, belief.replace("_", " "))
            question = f"Is this so: {statement} Say true, false or uncertain, and how sure you are, in percent."
            (state, percent), thought = self.choose(self.turns(question), f"belief:{cycle}:{belief}", STATES, PERCENT)
            with record.writing() as t:
                record.add(
                    t,
                    "epistemic_assessments",
                    [thought],
                    belief_type=belief,
                    belief_state=state,
                    confidence=int(percent) / 100,
                    evidence_json=json.dumps({"question": question, "answer": thought[1].content}),
                )
            log.info("cycle %d: %s: %s, sure to %s %%", cycle, belief, state, percent)


def _alternating(turns: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """These turns, the user's first and then by turns: many models' templates take nothing else."""
    result: list[dict[str, str]] = []
    for turn in turns:
        if result and result[-1]["role"] == turn["role"]:
            result[-1] = dict(turn, content=result[-1]["content"] + "\n\n" + turn["content"])
        elif result or turn["role"] == "user":
            result.append(turn)
    return result
