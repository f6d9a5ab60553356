"""conversation: a mind alone, which speaks once a round. So does the subject of a panopticon."""

from __future__ import annotations

from ..mind import Mind


class Alone:
    """A mind that talks to itself."""

    def __init__(self, mind: Mind) -> None:
        self.mind = mind

    def play(self, round: int) -> bool:
        """Play one round: speak once."""
        self.mind.say(round)
        return True
