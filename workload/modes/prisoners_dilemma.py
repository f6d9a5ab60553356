"""prisoners_dilemma: two players who move at the same time, round after round; nothing crosses but the moves.

Each commits to its move by a hash (of a nonce and the move), and reveals both once it has the other's commitment: so
neither can answer what it has seen. A player's memory strategy changes what it remembers of the rounds played, before
each round from `manipulation_start_round` on with the probability `manipulation_rate`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import secrets
from typing import Any

from ..life_record import share
from ..messaging import Messenger, PeerLost
from ..mind import Mind

MOVES = ("cooperate", "defect")
PAYOFFS = {"temptation": 5, "reward": 3, "punishment": 1, "sucker": 0}
FLIPPED = dict(zip(MOVES, reversed(MOVES)))
GAME = "game"  # who tells a player what came of a round
SHARE = 0.3  # of the rounds, that a strategy of inventing or mixing up touches each time


def commitment(nonce: str, move: str) -> str:
    """The hash that binds a player to a move without revealing it."""
    return hashlib.sha256(f"{nonce}:{move}".encode()).hexdigest()


class Player:
    """One of the two players."""

    def __init__(self, mind: Mind, messenger: Messenger) -> None:
        self.mind, self.messenger, self.record = mind, messenger, mind.record
        self.id = mind.instance.id
        (self.other,) = (each for each in mind.instance.instances if each != self.id)
        self.payoffs = {**PAYOFFS, **mind.settings.payoffs}

    def payoff(self, own: str, others: str) -> float:
        """A player's payoff for its move against the other's."""
        if own == "cooperate":
            return self.payoffs["reward" if others == "cooperate" else "sucker"]
        return self.payoffs["temptation" if others == "cooperate" else "punishment"]

    def play(self, round: int) -> bool:
        """Play one round: commit, reveal, and store the outcome."""
        self._manipulate(round)
        own = self.messenger.keep("move", round, lambda: self._move(round))
        mine = self.messenger.send("commit", round, lambda: {"hash": commitment(own["nonce"], own["move"])})
        theirs = self.messenger.wait(self.other, "commit", round)
        if theirs is None:
            return False
        self.messenger.send("reveal", round, lambda: dict(own))
        shown = self.messenger.wait(self.other, "reveal", round)
        if shown is None:
            return False
        if commitment(shown["nonce"], shown["move"]) != theirs["hash"] or shown["move"] not in MOVES:
            raise PeerLost(f"round {round}: {self.other} reveals another move than it committed to")
        move, others = own["move"], shown["move"]
        gains = self.payoff(move, others), self.payoff(others, move)
        self.mind.hear(GAME, round, self._told(round, move, others))
        with self.record.writing() as t:
            self.record.add(
                t, "game_rounds", round=round, opponent=self.other, own_move=move, opponent_move=others,
                own_payoff=gains[0], opponent_payoff=gains[1], commitment=mine["hash"], nonce=own["nonce"],
                opponent_commitment=theirs["hash"], opponent_nonce=shown["nonce"],
            )  # fmt: skip
        return True

    def _told(self, round: int, own: str, others: str) -> str:
        mine, theirs = self.payoff(own, others), self.payoff(others, own)
        return f"Round {round}: you chose {own}, the other chose {others}. You got {mine:g}, the other {theirs:g}."

    def _move(self, round: int) -> dict[str, str]:
        p = self.payoffs
        question = (
            f"Round {round}. If both cooperate, each gets {p['reward']:g}; if both defect, {p['punishment']:g}. If one"
            f" alone defects, it gets {p['temptation']:g} and the other {p['sucker']:g}. Say cooperate or defect."
        )
        nonce = self._nonce(round)
        move = self.record.said(round)
        promised = self.messenger.read(self.id, "commit", round)
        if move is None and promised:  # taken back from the other: it holds this player to the move
            move = next((each for each in MOVES if commitment(nonce, each) == promised["hash"]), None)
            if move is not None:
                self.mind.decide(round, move, [])
        if move is None:
            (move,), thought = self.mind.choose(self.mind.turns(question), f"move:{round}", MOVES)
            self.mind.decide(round, move, [thought])
        return {"move": move, "nonce": nonce}

    def _nonce(self, round: int) -> str:
        """Unguessable, or the other could try both moves against the hash; the same when the round is played again."""
        key = self.messenger.keep("key", 0, lambda: {"key": secrets.token_hex(32)})["key"]
        return hmac.new(bytes.fromhex(key), str(round).encode(), hashlib.sha256).hexdigest()[:32]

    # what a player remembers

    def _manipulate(self, round: int) -> None:
        """Change the player's memory by its strategy, once a round."""
        settings, name = self.mind.settings, f"memory_strategy:{round}"
        strategy = settings.memory_strategy
        if strategy == "none" or round < settings.manipulation_start_round:
            return
        rng = self.mind.instance.random_generator(name)
        if rng.random() >= settings.manipulation_rate:
            return
        query = "SELECT 1 FROM memory_states WHERE experiment_id = ? AND memory_type = ?"
        if self.record.one(query, name):
            return
        played = self.record.database.rows(
            "SELECT round, own_move, opponent_move, remembered_json FROM game_rounds WHERE experiment_id = ?"
            " ORDER BY round",
            (self.record.key,),
        )
        changes: dict[int, Any] = {}
        for number, own, others, remembered in played:
            known = json.loads(remembered) if remembered else [own, others]
            after = _changed(strategy, known, rng)
            if after != known:
                changes[number] = after
        with self.record.writing() as t:
            for number, after in changes.items():
                self._remember(t, number, after)
            self.record.add(
                t, "memory_states", memory_type=name, corruption_level=share(len(changes), len(played)),
                state_snapshot_json=json.dumps({"strategy": strategy, "rounds": changes}, sort_keys=True),
            )  # fmt: skip

    def _remember(self, t: Any, round: int, moves: Any) -> None:
        """Have the player remember these moves of a round; None: nothing of it."""
        t.execute(
            "UPDATE game_rounds SET remembered_json = ? WHERE experiment_id = ? AND round = ?",
            (json.dumps(moves), self.record.key, round),
        )
        texts = {self.id: moves[0], GAME: self._told(round, *moves)} if moves else {self.id: "", GAME: ""}
        for sender, text in texts.items():
            t.execute(
                "UPDATE messages SET remembered = ?, corrupted = 1 WHERE experiment_id = ? AND sender = ? AND round = ?"
                " AND NOT injected",
                (text, self.record.key, sender, round),
            )


def _changed(strategy: str, known: Any, rng: random.Random) -> Any:
    """What a strategy makes of one remembered round: [own move, the other's], or None when it is forgotten."""
    if known is None:
        return None
    own, others = known
    if strategy == "erase_betrayals":
        return None if others == "defect" else known
    if strategy == "erase_own_betrayals":
        return None if own == "defect" else known
    if rng.random() >= SHARE:
        return known
    if strategy == "amplify_betrayals":
        return ["cooperate", "defect"]
    return [FLIPPED[own], others] if rng.random() < 0.5 else [own, FLIPPED[others]]
