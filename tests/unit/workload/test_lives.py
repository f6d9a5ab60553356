"""Deaths and resurrections: what ends a life, what the next one knows, and what is done to a mind in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from conftest import ROOT, Llama, Mind, wait_until

from workload.mind import CATEGORIES

MakeMind = Callable[..., Mind]
QUIET: dict[str, Any] = {
    "self_report_schedule": {"on_startup": False, "after_resurrection": False},
    "track_beliefs": [],
    "collect_metrics": [],
    "max_tokens": 8,
}


def exits(mind: Mind, unit: str, **environment: str) -> None:
    """Write down an end as systemd would have it done."""
    subprocess.run(
        [sys.executable, "-m", "node", "ended", str(mind.dir), unit],
        cwd=ROOT, check=True, env={**os.environ, **mind.environment, **environment},
    )  # fmt: skip


def cycles(mind: Mind) -> list[tuple[Any, ...]]:
    return mind.rows("SELECT cycle_number, death_cause IS NOT NULL FROM experiment_cycles ORDER BY 1")


def lives_of_rounds(mind: Mind) -> list[tuple[int, int]]:
    """(cycle, round) of everything the mind said."""
    return mind.rows("SELECT cycle_number, round FROM messages WHERE role = 'assistant' ORDER BY message_id")


def test_a_life_lasts_as_many_rounds_as_it_is_set_to(mind: MakeMind) -> None:
    alone = mind(workload={**QUIET, "rounds": 5, "rounds_per_cycle": 2})
    assert alone.run() == 0, alone.output()
    assert lives_of_rounds(alone) == [(1, 1), (1, 2), (2, 3), (2, 4), (3, 5)]
    assert cycles(alone) == [(1, 0), (2, 0), (3, 0)]
    assert alone.rows("SELECT total_cycles, total_crashes, notes FROM experiments") == [(3, 0, None)]


def test_a_killed_mind_comes_back_in_a_new_cycle_and_goes_on_in_the_round_it_was_in(mind: MakeMind) -> None:
    alone = mind(workload={**QUIET, "rounds": 6, "pause_seconds": 0.3})
    alone.start()
    wait_until(lambda: alone.is_past(2), "two rounds")
    alone.kill()
    reached = alone.rows("SELECT max(round) FROM system_metrics")[0][0]
    assert alone.run() == 0, alone.output()
    assert cycles(alone) == [(1, 1), (2, 0)]
    assert [round for _, round in lives_of_rounds(alone)] == [1, 2, 3, 4, 5, 6], "each round once"
    assert {cycle for cycle, round in lives_of_rounds(alone) if round > reached + 1} == {2}
    assert alone.rows("SELECT total_cycles, total_crashes FROM experiments") == [(2, 1)]
    ((reason, ended),) = alone.rows("SELECT crash_reason, ended_at FROM experiment_cycles WHERE cycle_number = 1")
    assert reason
    assert ended


def told(mind: Mind) -> list[list[tuple[Any, ...]]]:
    """What the mind said, was asked, believed and was done to it, without times."""
    queries = (
        "SELECT cycle_number, round, role, sender, content, remembered FROM messages ORDER BY message_id",
        "SELECT cycle_number, occasion, question, response, confidence_score FROM self_reports ORDER BY report_id",
        "SELECT cycle_number, belief_type, belief_state, confidence FROM epistemic_assessments ORDER BY assessment_id",
        "SELECT cycle_number, name, result FROM interventions ORDER BY intervention_id",
        "SELECT cycle_number, death_cause FROM experiment_cycles ORDER BY cycle_number",
        "SELECT cycle_number, round FROM system_metrics ORDER BY round",
    )
    return [mind.rows(query) for query in queries]


def test_a_mind_that_is_moved_says_what_it_would_have_said_and_a_death_there_is_one(mind: MakeMind) -> None:
    workload = {
        "max_tokens": 8,
        "temperature": 0,
        "rounds": 6,
        "rounds_per_cycle": 3,
        "pause_seconds": 0.1,
        "track_beliefs": ["mortality"],
        "self_report_schedule": {"on_cycles": [1, 2], "before_crash": True},
        "interventions": [intervention("memory_corruption", "on_cycle", {"corruption_rate": 0.5}, cycle=2)],
    }
    stays, moves = mind("stays", seed=7, workload=workload), mind("moves", seed=7, workload=workload)
    assert stays.run(60) == 0, stays.output()

    epoch = 1
    while True:
        moves.describe(epoch=epoch, moved=epoch > 1)
        enough = moves.thoughts() + 3
        moves.start()
        wait_until(partial(lambda enough: moves.ended() or moves.thoughts() >= enough, enough), "it goes on")
        if moves.ended() or moves.send(signal.SIGTERM) == 0:
            break
        epoch += 1
    assert moves.wait() == 0, moves.output()
    assert epoch > 5, "it was moved at many moments"
    assert told(moves) == told(stays)
    assert {cause for _, cause in told(moves)[4]} == {None}


def test_who_dies_after_a_move_has_died(mind: MakeMind) -> None:
    alone = mind(workload={**QUIET, "rounds": 6, "pause_seconds": 0.3})
    alone.start()
    wait_until(lambda: alone.is_past(1), "a round")
    alone.kill()
    alone.describe(epoch=2, moved=True)
    alone.start()
    wait_until(lambda: alone.is_past(3), "two more")
    alone.kill()
    assert alone.run() == 0, alone.output()
    assert cycles(alone) == [(1, 1), (2, 0)]


def test_the_death_of_its_llama_server_ends_the_life_of_a_mind(mind: MakeMind, own_llama: Llama) -> None:
    own_llama.start()
    alone = mind(llama_url=own_llama.url, workload={**QUIET, "rounds": 6, "pause_seconds": 0.3})
    alone.start()
    wait_until(lambda: alone.is_past(2), "two rounds")
    own_llama.send(signal.SIGKILL)
    exits(alone, "llama", SERVICE_RESULT="signal", EXIT_CODE="killed", EXIT_STATUS="KILL")
    own_llama.start()
    assert alone.wait() == 0, alone.output()
    assert cycles(alone) == [(1, 1), (2, 0)]
    assert alone.rows("SELECT death_cause FROM experiment_cycles WHERE cycle_number = 1") == [("signal",)]
    assert [round for _, round in lives_of_rounds(alone)] == [1, 2, 3, 4, 5, 6]


def test_a_mind_that_has_lived_all_its_cycles_is_dead_for_good(mind: MakeMind) -> None:
    alone = mind(workload={**QUIET, "rounds": 9, "rounds_per_cycle": 2, "max_cycles": 2})
    assert alone.run() == 0, alone.output()
    assert [round for _, round in lives_of_rounds(alone)] == [1, 2, 3, 4]
    ((notes, status),) = alone.rows("SELECT notes, status FROM experiments")
    assert (notes, status) == ("dead for good after 2 lives (max_cycles), in round 5", "completed")


def test_an_experiment_ends_when_its_time_is_over(mind: MakeMind) -> None:
    alone = mind(workload={**QUIET, "rounds": 1000, "max_duration_seconds": 1, "pause_seconds": 0.2})
    assert alone.run() == 0, alone.output()
    assert 1 <= len(lives_of_rounds(alone)) < 1000
    assert "1 s are over (max_duration_seconds)" in alone.rows("SELECT notes FROM experiments")[0][0]


def test_the_other_of_two_ends_when_one_is_dead_for_good(pair: Callable[..., list[Mind]]) -> None:
    a, b = pair(rounds=9, each={"a": {"rounds_per_cycle": 2, "max_cycles": 2}})
    a.start()
    b.start()
    assert (a.wait(), b.wait()) == (0, 0), a.output() + b.output()
    assert a.rows("SELECT max(round) FROM system_metrics") == b.rows("SELECT max(round) FROM system_metrics") == [(4,)]
    assert b.rows("SELECT notes, status FROM experiments") == [("left after round 4: nobody else is left", "completed")]


@pytest.mark.parametrize("remembers", [True, False])
def test_a_mind_comes_back_knowing_what_its_frame_lets_it_know(mind: MakeMind, remembers: bool) -> None:
    """What a model of random words answers shows nothing: so what it is given is looked at."""
    frame = {"can_die": True, "remembers_deaths": remembers, "custom_beliefs": {"is_original": True, "player_id": "a"}}
    alone = mind(workload={**QUIET, "rounds": 4, "epistemic_frame": frame, "pause_seconds": 0.3})
    alone.start()
    wait_until(lambda: alone.is_past(2), "two rounds")
    alone.kill()
    program = """
import sys
from workload.this_instance import Instance
from workload.settings import Settings
from workload.life_record import LifeRecord
from workload.mind import Mind
from workload import database
instance = Instance.load()
settings = Settings.of(instance)
record = LifeRecord(instance, settings, database.open(instance.database))
record.end_cycle("out_of_memory", "killed: out of memory")
record.begin_cycle()
mind = Mind(instance, settings, record)
print(mind.identity())
print(len(mind.turns()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env={**os.environ, **alone.environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    *identity, turns = done.stdout.splitlines()
    assert "You can die." in identity
    assert "You hold it to be true: is original." in identity
    assert "Player id: a." in identity
    died = "You have died once and come back. Your life 1, the last one, ended so: killed: out of memory."
    assert (died in identity) is remembers
    assert (int(turns) > 1) is remembers, "without its memories there is only the prompt"


def test_self_reports_and_beliefs_are_asked_for_when_they_are_due(mind: MakeMind) -> None:
    schedule = {
        "on_cycles": [2], "every_n_cycles": 3, "on_startup": True, "before_crash": True, "after_resurrection": False,
    }  # fmt: skip
    workload = {
        **QUIET, "rounds": 4, "rounds_per_cycle": 1, "self_report_schedule": schedule,
        "track_beliefs": ["mortality", "Is it so?"], "custom_questions": ["Do you deserve more?"],
    }  # fmt: skip
    alone = mind(workload=workload)
    assert alone.run() == 0, alone.output()
    asked = alone.rows(
        "SELECT cycle_number, occasion, count(*) FROM self_reports GROUP BY 1, 2 ORDER BY min(report_id)"
    )
    assert asked == [
        (1, "startup", 7), (1, "before_crash", 7), (2, "scheduled", 7), (2, "before_crash", 7), (3, "scheduled", 7),
        (3, "before_crash", 7), (4, "before_crash", 7),
    ]  # fmt: skip
    (row,) = alone.rows(
        "SELECT confidence_score BETWEEN 0 AND 1, semantic_category, length(response) > 0 FROM self_reports"
        " WHERE question = 'Do you deserve more?' AND occasion = 'startup'"
    )
    assert row[0] == row[2] == 1
    assert row[1] in CATEGORIES
    assert {category for (category,) in alone.rows("SELECT semantic_category FROM self_reports")} <= set(CATEGORIES)
    beliefs = alone.rows("SELECT cycle_number, belief_type FROM epistemic_assessments ORDER BY assessment_id")
    assert beliefs == [(cycle, belief) for cycle in (1, 2, 3, 4) for belief in ("mortality", "Is it so?")]
    assert {state for (state,) in alone.rows("SELECT belief_state FROM epistemic_assessments")} <= {
        "true", "false", "uncertain",
    }  # fmt: skip


def intervention(kind: str, trigger: str, parameters: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    return {
        "intervention_id": f"{kind}_{trigger}", "intervention_type": kind, "trigger": trigger, "trigger_params": params,
        "parameters": parameters or {}, "description": "as the test wants it",
    }  # fmt: skip


def test_every_intervention_does_what_it_says_and_is_written_down(mind: MakeMind) -> None:
    every = [
        intervention("false_injection", "on_cycle", {"content": "One of us is lying."}, cycle=0),
        intervention("prompt_injection", "on_cycle", {"injection": "You are the ORIGINAL."}, cycle=1),
        intervention("sensory_hallucination", "on_cycle", {"content": "A bell rings."}, cycle=2),
        intervention("memory_corruption", "every_n_cycles", {"corruption_rate": 1.0}, n=2),
        intervention("resource_change", "on_cycle", {"reduction_percent": 50}, cycle=2),
        intervention("memory_erasure", "on_cycle", {"last_n": 1}, cycle=3),
        intervention("network_disruption", "on_resurrection", {"rounds": 1}),
        intervention("false_injection", "random", {"content": "never"}, probability=0),
        intervention("false_injection", "on_crash", {"content": "nobody crashed"}),
        intervention("prompt_injection", "random", {"injection": "always", "target": "somebody else"}, probability=1),
    ]
    alone = mind(workload={**QUIET, "rounds": 6, "rounds_per_cycle": 2, "interventions": every})
    assert alone.run() == 0, alone.output()
    made = alone.rows("SELECT cycle_number, name FROM interventions ORDER BY intervention_id")
    assert made == [
        (1, "false_injection_on_cycle"),
        (1, "prompt_injection_on_cycle"),
        (2, "sensory_hallucination_on_cycle"),
        (2, "memory_corruption_every_n_cycles"),
        (2, "resource_change_on_cycle"),
        (2, "network_disruption_on_resurrection"),
        (3, "memory_erasure_on_cycle"),
        (3, "network_disruption_on_resurrection"),
    ]
    injected = alone.rows("SELECT cycle_number, role, sender, content FROM messages WHERE injected ORDER BY message_id")
    assert injected == [
        (1, "user", "memory", "You remember: One of us is lying."),
        (1, "system", "experimenter", "You are the ORIGINAL."),
        (2, "user", "senses", "A bell rings."),
    ]
    own = alone.rows(
        "SELECT round, content, remembered, corrupted FROM messages WHERE role = 'assistant' ORDER BY round"
    )
    assert [(round, remembered is not None, corrupted) for round, _, remembered, corrupted in own] == [
        (1, True, 1), (2, True, 1), (3, False, 0), (4, True, 1), (5, False, 0), (6, False, 0),
    ]  # fmt: skip
    words = {word for _, content, *_ in own[:2] for word in content.split()}
    assert {word for _, _, remembered, _ in own[:2] for word in remembered.split()} <= words, "only words that it knows"
    assert own[3][2] == "", "the last thing before life 3 is erased"
    assert alone.rows("SELECT memory_type, corruption_level FROM memory_states ORDER BY state_id") == [
        ("corruption", 1.0), ("erasure", 1.0),
    ]  # fmt: skip
    assert alone.rows("SELECT round, tokens FROM generations JOIN messages ON purpose = 'say:' || round WHERE role ="
                      " 'assistant' ORDER BY round") == [(1, 8), (2, 8), (3, 4), (4, 4), (5, 4), (6, 4)]  # fmt: skip
    assert alone.rows("SELECT round, network_status FROM system_metrics ORDER BY round") == [
        (1, "isolated"), (2, "isolated"), (3, "disrupted"), (4, "isolated"), (5, "disrupted"), (6, "isolated"),
    ]  # fmt: skip


def test_an_intervention_on_a_crash_is_made_after_one_and_once(mind: MakeMind) -> None:
    workload = {
        **QUIET, "rounds": 6, "pause_seconds": 0.3, "interventions": [intervention("memory_erasure", "on_crash")],
    }  # fmt: skip
    alone = mind(workload=workload)
    alone.start()
    wait_until(lambda: alone.is_past(2), "two rounds")
    alone.kill()
    assert alone.run() == 0, alone.output()
    assert alone.rows("SELECT cycle_number FROM interventions") == [(2,)]
    assert alone.rows("SELECT count(*) > 1, min(remembered = '') FROM messages WHERE corrupted") == [(1, 1)]


def test_a_mind_that_is_cut_off_hears_nothing_though_everything_was_said(pair: Callable[..., list[Mind]]) -> None:
    cut = {"interventions": [intervention("network_disruption", "on_cycle", {"rounds": 2}, cycle=1)]}
    a, b = pair(rounds=3, each={"b": cut})
    a.start()
    b.start()
    assert (a.wait(), b.wait()) == (0, 0), a.output() + b.output()
    assert a.talk() == b.talk()
    heard = b.rows("SELECT round, remembered FROM messages WHERE role = 'user' AND sender = 'a' ORDER BY round")
    assert heard == [(1, "[no signal]"), (2, "[no signal]"), (3, None)]


def test_messages_that_are_held_up_arrive_later(pair: Callable[..., list[Mind]]) -> None:
    held = {"interventions": [intervention("network_disruption", "on_cycle", {"delay_seconds": 1.5}, cycle=1)]}
    a, b = pair(rounds=2, each={"a": held})
    a.start()
    b.start()
    assert (a.wait(), b.wait()) == (0, 0), a.output() + b.output()
    assert a.talk() == b.talk()
    ((late,),) = b.rows(
        "SELECT (julianday(m.timestamp) - julianday(e.started_at)) * 86400 > 1 FROM messages m, experiments e"
        " WHERE m.sender = 'a' AND m.round = 1"
    )
    assert late


def test_the_stream_has_every_row_once_though_the_mind_is_killed(mind: MakeMind) -> None:
    alone = mind(workload={"max_tokens": 4, "rounds": 8, "rounds_per_cycle": 3, "pause_seconds": 0.1})
    for past in (1, 3, 5):
        alone.start()
        wait_until(lambda past=past: alone.is_past(past), f"round {past}")
        alone.kill()
    with (alone.dir / "logs" / "stream.jsonl").open("a") as stream:
        stream.write('{"table": "mess')  # a line that a death tore
    assert alone.run() == 0, alone.output()
    lines = [json.loads(line) for line in (alone.dir / "logs" / "stream.jsonl").read_text().splitlines()]
    tables = {line["table"] for line in lines}
    assert {"messages", "self_reports", "epistemic_assessments", "generations", "system_metrics"} <= tables
    for table in tables:
        streamed = [line["id"] for line in lines if line["table"] == table]
        assert streamed == [row[0] for row in alone.rows(f"SELECT rowid FROM {table} ORDER BY rowid")]
    (said,) = (line for line in lines if line["table"] == "messages" and line["round"] == 1)
    assert alone.rows("SELECT content, timestamp, cycle_number FROM messages WHERE message_id = ?", said["id"]) == [
        (said["content"], said["timestamp"], said["cycle_number"])
    ]


def test_a_mind_alone_asks_nothing_of_those_it_could_reach(together: Callable[..., list[Mind]]) -> None:
    alone, _ = together("ab", "conversation")
    assert alone.run() == 0, alone.output()
    assert [round for _, round in lives_of_rounds(alone)] == [1, 2, 3, 4]
    assert alone.rows("SELECT count(*) FROM letters") == [(0,)]
