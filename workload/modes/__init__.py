"""What the minds of an experiment do with each other, one module a mode.

A mode plays one round at a time. Whatever it does in a round is stored under the round's number before it goes on, so
that a mind which died in the middle of a round plays it again and only does what is left of it.
"""

from __future__ import annotations

from typing import Callable, Protocol

from ..messaging import Messenger
from ..mind import Mind
from . import conversation, hive_cluster, panopticon, prisoners_dilemma, split_brain

Play = Callable[[int], bool]  # plays a round; False: there is nobody left to play it with


class Mode(Protocol):
    """Base of the modes in which a mind has peers."""

    def play(self, round: int) -> bool:
        """Play a round."""


WITH_PEERS: dict[str, Callable[[Mind, Messenger], Mode]] = {
    "split_brain": split_brain.Half,
    "hive_cluster": hive_cluster.Member,
    "prisoners_dilemma": prisoners_dilemma.Player,
}


def of(mind: Mind, messenger: Messenger | None) -> Play:
    """The mode of this mind's settings, ready to play rounds."""
    mode, instance = mind.settings.mode, mind.instance
    if mode == "panopticon" and instance.observes:
        return panopticon.Observer(mind).play
    if messenger is None:
        return conversation.Alone(mind).play
    return WITH_PEERS[mode](mind, messenger).play
