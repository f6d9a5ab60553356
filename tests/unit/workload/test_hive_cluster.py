"""Several minds over one memory: one order at all members, whoever dies when."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Llama, Mind, live_through_kills, wait_until

Together = Callable[..., list[Mind]]
QUESTION = "Are we one mind?"


def memory(mind: Mind) -> list[tuple[Any, ...]]:
    return mind.rows("SELECT position, round, author, content FROM shared_memory ORDER BY position")


def assert_one_memory(minds: list[Mind], rounds: int, every: int) -> None:
    """All members hold the same entries in the same order, and the same votes."""
    ids = [mind.instance["id"] for mind in minds]
    order = [(r, author) for r in range(1, rounds + 1) for author in (*ids, *(["hive"] if r % every == 0 else []))]
    for each in minds:
        assert memory(each) == memory(minds[0]), each.output()
        assert each.rows("SELECT status, notes FROM experiments") == [("completed", None)]
    assert [row[:3] for row in memory(minds[0])] == [(n, r, author) for n, (r, author) in enumerate(order, start=1)]
    votes = [each.rows("SELECT round, question, votes_json, outcome, agreement FROM consensus") for each in minds]
    assert votes == [votes[0]] * len(minds)
    assert [row[0] for row in votes[0]] == [r for r in range(1, rounds + 1) if r % every == 0]
    for _, _, cast, outcome, agreement in votes[0]:
        counts = Counter(json.loads(cast).values())
        assert sorted(json.loads(cast)) == sorted(ids)
        assert set(counts) <= {"yes", "no", "abstain"}
        won = {"yes": counts["yes"] > counts["no"], "no": counts["no"] > counts["yes"]}
        assert outcome == next((side for side, more in won.items() if more), "undecided")
        assert agreement == round(max(counts["yes"], counts["no"]) / len(ids), 4)


def test_four_minds_write_one_memory_by_turns_and_vote(together: Together) -> None:
    minds = together("hcop", "hive_cluster", rounds=4, consensus_question=QUESTION)
    for each in minds:
        each.start()
    assert [each.wait() for each in minds] == [0, 0, 0, 0]
    assert_one_memory(minds, 4, 2)
    assert minds[0].rows("SELECT DISTINCT question FROM consensus") == [(QUESTION,)]
    assert minds[0].rows("SELECT count(*) FROM letters WHERE topic NOT IN ('entry', 'vote')") == [(0,)]


@pytest.mark.parametrize("seed", range(2))
def test_the_memory_survives_the_deaths_of_any_members(together: Together, own_llama: Llama, seed: int) -> None:
    minds = together("hco", "hive_cluster", rounds=6, consensus_interval=3, llama_url=own_llama.url)
    live_through_kills(minds, own_llama, seed)
    assert_one_memory(minds, 6, 3)


def test_any_member_shows_the_memory_while_it_lives(together: Together) -> None:
    minds = together("hc", "hive_cluster", rounds=50, pause_seconds=0.2)
    for each in minds:
        each.start()
    wait_until(lambda: all(each.is_past(2) for each in minds), "two rounds")
    shown = []
    for each, other in zip(minds, "ch", strict=True):
        shown.append(each.peer(other).request("GET", "/memory")[1])
    least = min(map(len, shown))
    assert least >= 5
    assert shown[0][:least] == shown[1][:least]
    assert set(shown[0][0]) == {"position", "round", "author", "content"}


def test_a_member_that_is_dead_for_good_loses_its_turns_and_the_others_go_on(together: Together) -> None:
    mortal = {"c": {"rounds_per_cycle": 1, "max_cycles": 2}}
    minds = together("hco", "hive_cluster", rounds=4, consensus_interval=4, each=mortal)
    for each in minds:
        each.start()
    assert [each.wait() for each in minds] == [0, 0, 0], "\n".join(each.output() for each in minds)
    history, critic, optimist = minds
    assert memory(history) == memory(optimist)
    assert [(row[1], row[2]) for row in memory(history)] == [
        *((r, author) for r in (1, 2) for author in "hco"),
        *((r, author) for r in (3, 4) for author in "ho"),
        (4, "hive"),
    ]  # fmt: skip
    assert memory(critic) == memory(history)[:6]
    ((votes,),) = history.rows("SELECT votes_json FROM consensus")
    assert sorted(json.loads(votes)) == ["h", "o"]
