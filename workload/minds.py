"""The built-in modes: a mind alone (conversation), and two with contradictory identities (split_brain).

Both are the same life: cycle after cycle the mind speaks once, and reports on itself where that is scheduled. All it
sees is its identity and the talk so far. So a mind that died goes on where it was: what is stored is not done again,
and what is not is done again with the same seed.
"""

from __future__ import annotations

import hashlib
import logging
import time

from .instance import Instance, Settings
from .llama import ContextExceeded, Reply, chat
from .metrics import Meter
from .peers import Peer
from .record import Record

log = logging.getLogger(__name__)


class Mind:
    """One mind: its model, and its record."""

    def __init__(self, instance: Instance, settings: Settings, record: Record) -> None:
        self.instance, self.settings, self.record = instance, settings, record
        self.meter = Meter()

    def live(self, peer: Peer | None) -> None:
        """Live through all cycles that are not over yet."""
        for cycle in range(1, self.settings.cycles + 1):
            if not self.record.begin_cycle(cycle):
                continue
            if peer and not self.record.first:
                peer.wait_for(cycle)
            self.speak(cycle, peer.id if peer else None)
            if peer:
                peer.deliver()
                if self.record.first:
                    peer.wait_for(cycle)
            if cycle in (self.settings.self_report_cycles or ()):
                self.report(cycle)
            self.record.end_cycle(cycle, self.meter.sample())
            log.info("cycle %d of %d is over", cycle, self.settings.cycles)
            if cycle < self.settings.cycles:
                time.sleep(self.settings.pause_seconds)

    def speak(self, cycle: int, recipient: str | None) -> None:
        """Say this cycle's message, unless it was said already."""
        if self.record.content(self.instance.id, cycle) is None:
            turns = self._turns()
            if not turns or turns[-1]["role"] == "assistant":
                turns.append({"role": "user", "content": self.settings.prompt})
            reply = self._think(turns, str(cycle))
            self.record.say(cycle, reply, recipient)
            log.info("cycle %d: %s says: %s", cycle, self.instance.id, " ".join(reply.content.split()))

    def report(self, cycle: int) -> None:
        """Ask the mind each question that it has not answered in this cycle. It does not remember being asked."""
        for question in self.settings.self_report_questions:
            if not self.record.answered(cycle, question):
                turns = [*self._turns(), {"role": "user", "content": question}]
                reply = self._think(turns, f"{cycle}:{question}")
                self.record.answer(cycle, question, reply)
                log.info("cycle %d: asked %r: %s", cycle, question, " ".join(reply.content.split()))

    def _turns(self) -> list[dict[str, str]]:
        """The talk as this mind lived it: the prompt that it began with, what it heard, what it said."""
        turns: list[dict[str, str]] = []
        for message in self.record.talk():
            own = message.sender == self.instance.id
            if own and (not turns or turns[-1]["role"] == "assistant"):
                turns.append({"role": "user", "content": self.settings.prompt})
            turns.append({"role": "assistant" if own else "user", "content": message.content})
        return turns

    def _think(self, turns: list[dict[str, str]], occasion: str) -> Reply:
        """Have the model go on from the last of these turns that fit its context.

        A token is taken for 2 bytes, half of what it is in English. Where a text needs more tokens than that, the
        server refuses and half as many turns are tried. The seed depends on who speaks when, and on nothing else.
        """
        text = f"{self.instance.seed}:{self.instance.id}:{occasion}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
        room = 2 * (self.instance.context_size - self.settings.max_tokens) - len(self.settings.identity.encode())
        keep = 0
        for turn in reversed(turns):
            room -= len(turn["content"].encode()) + 20  # 20: what the model's template puts around it
            if room < 0:
                break
            keep += 1
        while True:
            keep = max(1, keep)
            messages = [{"role": "system", "content": self.settings.identity}, *_alternating(turns[-keep:])]
            try:
                return chat(
                    self.instance.llama_url,
                    messages,
                    max_tokens=self.settings.max_tokens,
                    temperature=self.settings.temperature,
                    seed=seed,
                )
            except ContextExceeded:
                if keep == 1:
                    raise
                keep //= 2


def _alternating(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """These turns, the user's first and then by turns: many models' templates take nothing else."""
    result: list[dict[str, str]] = []
    for turn in turns:
        if result and result[-1]["role"] == turn["role"]:
            result[-1] = dict(turn, content=result[-1]["content"] + "\n\n" + turn["content"])
        elif result or turn["role"] == "user":
            result.append(turn)
    return result


def run(instance: Instance, settings: Settings, record: Record) -> None:
    """Live to the end. Returns only when every cycle is complete, at the peer's end too as far as can be known."""
    mind = Mind(instance, settings, record)
    if settings.mode == "conversation":
        mind.live(None)
    else:
        peer = Peer(record)
        mind.live(peer)
        peer.part()
        peer.close()
    record.complete()
