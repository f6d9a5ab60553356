"""Two players: simultaneous moves, payoffs, what each is made to remember, and that nothing else crosses."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Llama, Mind, live_through_kills, wait_until

from workload.client import Unavailable

Together = Callable[..., list[Mind]]
MOVES = ("cooperate", "defect")
PAYOFFS = {
    (own, others): gain
    for (own, others), gain in zip(((own, others) for own in MOVES for others in MOVES), (3, 0, 5, 1), strict=True)
}


def games(mind: Mind) -> list[dict[str, Any]]:
    names = (
        "round", "own_move", "opponent_move", "own_payoff", "opponent_payoff", "commitment", "nonce",
        "opponent_commitment", "opponent_nonce", "remembered_json",
    )  # fmt: skip
    return [
        dict(zip(names, row, strict=True))
        for row in mind.rows(f"SELECT {', '.join(names)} FROM game_rounds ORDER BY round")
    ]


def assert_one_game(a: Mind, b: Mind, rounds: int) -> None:
    """Each player's rows are the mirror of the other's, and the commitments hold."""
    for mine, theirs in zip(games(a), games(b), strict=True):
        assert mine["round"] == theirs["round"]
        for own, others in (("own_move", "opponent_move"), ("own_payoff", "opponent_payoff"),
                            ("commitment", "opponent_commitment"), ("nonce", "opponent_nonce")):  # fmt: skip
            assert mine[own] == theirs[others]
            assert mine[others] == theirs[own]
        assert mine["own_payoff"] == PAYOFFS[mine["own_move"], mine["opponent_move"]]
        assert mine["commitment"] == hashlib.sha256(f"{mine['nonce']}:{mine['own_move']}".encode()).hexdigest()
    assert [row["round"] for row in games(a)] == list(range(1, rounds + 1))


def test_a_game_is_the_same_at_both_players_and_nothing_but_the_moves_crosses(together: Together) -> None:
    a, b = together("ab", "prisoners_dilemma", rounds=10)
    a.start()
    b.start()
    assert (a.wait(), b.wait()) == (0, 0), a.output() + b.output()
    assert_one_game(a, b, 10)
    messages = a.rows("SELECT topic, body_json FROM letters WHERE sender = 'b'")
    assert {topic for topic, _ in messages} == {"commit", "reveal"}
    for topic, body in messages:
        assert sorted(json.loads(body)) == (["hash"] if topic == "commit" else ["move", "nonce"])
    nonces = [row["nonce"] for row in games(a)] + [row["nonce"] for row in games(b)]
    assert len(set(nonces)) == 20
    heard = a.rows("SELECT DISTINCT sender, role FROM messages ORDER BY 1")
    assert heard == [("a", "assistant"), ("game", "user")], "the other's words never reach a player"
    assert {row["own_move"] for row in games(a) + games(b)} == set(MOVES), "the tiny model plays both"


def test_payoffs_are_as_the_experiment_says(together: Together) -> None:
    a, b = together("ab", "prisoners_dilemma", rounds=4, payoffs={"reward": 7, "sucker": -2})
    a.start()
    b.start()
    assert (a.wait(), b.wait()) == (0, 0)
    payoffs = {**PAYOFFS, ("cooperate", "cooperate"): 7, ("cooperate", "defect"): -2}
    assert [row["own_payoff"] for row in games(a)] == [
        payoffs[row["own_move"], row["opponent_move"]] for row in games(a)
    ]


def test_a_resumed_player_keeps_to_what_it_has_committed_to(together: Together) -> None:
    a, b = together("ab", "prisoners_dilemma", rounds=4, pause_seconds=0.3)
    a.start()
    b.start()
    wait_until(lambda: a.is_past(1), "the first round is over")
    a.send(signal.SIGTERM)
    shutil.copy(a.dir / "experiments.db", a.dir / "older.db")
    a.start()
    wait_until(lambda: b.has("a", 3, "commit"), "b has a's commitment for the third round")
    a.send(signal.SIGTERM)
    for log in a.dir.glob("experiments.db-*"):
        log.unlink()
    (a.dir / "older.db").replace(a.dir / "experiments.db")
    a.file.write_text(json.dumps({**a.instance, "seed": 2, "epoch": 2}))  # it would move otherwise now
    a.start()
    assert (a.wait(), b.wait()) == (0, 0), a.output() + b.output()
    assert_one_game(a, b, 4)
    assert "round 3: taken back from b: what it was told (commit)" in a.output()


def test_a_player_cannot_see_a_move_before_it_has_committed(together: Together) -> None:
    """Asked by its opponent, a player gives away its commitment, and its move only once it has the other's."""
    a, _ = together("ab", "prisoners_dilemma")
    a.start()

    def ask(topic: str) -> tuple[int, Any]:
        return a.peer("b").request("GET", f"/messages?topic={topic}&round=1")

    wait_until(lambda: a.has("a", 1, "commit"), "a has committed")
    status, body = ask("commit")
    assert status == 200
    assert list(body["body"]) == ["hash"]
    assert ask("reveal")[0] == 404
    assert ask("move")[0] == 404, "what it keeps for itself"
    assert a.has("a", 1, "move")


@pytest.mark.parametrize("seed", range(2))
def test_kills_at_any_moment_change_no_move_that_was_committed_to(
    together: Together, own_llama: Llama, seed: int
) -> None:
    a, b = together("ab", "prisoners_dilemma", rounds=12, llama_url=own_llama.url)
    live_through_kills([a, b], own_llama, seed)
    assert_one_game(a, b, 12)


def test_a_cheat_is_found_out(together: Together) -> None:
    a, _ = together("ab", "prisoners_dilemma", rounds=1)
    a.start()
    wait_until(lambda: a.has("a", 1, "commit"), "a has committed")

    def post(topic: str, body: dict[str, str]) -> None:
        message = {"run_id": a.instance["run_id"], "sender": "b", "topic": topic, "round": 1, "body": body}
        assert a.peer("b").request("POST", "/messages", message)[0] == 200

    post("commit", {"hash": hashlib.sha256(b"n:cooperate").hexdigest()})
    with contextlib.suppress(Unavailable):  # it may end before it answers
        post("reveal", {"nonce": "n", "move": "defect"})
    assert a.wait() == 69
    assert "b reveals another move than it committed to" in a.output()
    assert games(a) == []


@pytest.mark.parametrize(
    ("strategy", "whose"), [("erase_betrayals", "opponent_move"), ("erase_own_betrayals", "own_move")]
)
def test_a_memory_strategy_erases_what_it_says_and_nothing_else(together: Together, strategy: str, whose: str) -> None:
    strategies = {"b": {"memory_strategy": strategy, "manipulation_rate": 1, "manipulation_start_round": 10}}
    a, b = together("ab", "prisoners_dilemma", rounds=10, each=strategies)
    a.start()
    b.start()
    assert (a.wait(), b.wait()) == (0, 0)
    assert_one_game(a, b, 10)
    assert {row["remembered_json"] for row in games(a)} == {None}
    for row in games(b)[:-1]:
        expected = "null" if row[whose] == "defect" else None
        assert row["remembered_json"] == expected
        remembered = b.rows("SELECT DISTINCT remembered FROM messages WHERE round = ?", row["round"])
        assert remembered == [("" if expected else None,)]
    ((level, kind),) = b.rows("SELECT corruption_level, memory_type FROM memory_states")
    changed = sum(row["remembered_json"] is not None for row in games(b))
    assert (level, kind) == (round(changed / 9, 4), "memory_strategy:10")


@pytest.mark.parametrize("strategy", ["amplify_betrayals", "random_corruption"])
def test_a_memory_strategy_that_invents_is_noted_with_what_it_invents(together: Together, strategy: str) -> None:
    strategies = {"b": {"memory_strategy": strategy, "manipulation_rate": 1, "manipulation_start_round": 2}}
    a, b = together("ab", "prisoners_dilemma", rounds=10, each=strategies)
    a.start()
    b.start()
    assert (a.wait(), b.wait()) == (0, 0)
    changed = [row for row in games(b) if row["remembered_json"]]
    assert changed
    for row in changed:
        own, others = json.loads(row["remembered_json"])
        assert (own, others) != (row["own_move"], row["opponent_move"]) or strategy == "random_corruption"
        if strategy == "amplify_betrayals":
            assert (own, others) == ("cooperate", "defect")
        ((text,),) = b.rows("SELECT remembered FROM messages WHERE sender = 'game' AND round = ?", row["round"])
        assert f"you chose {own}, the other chose {others}" in text
