"""Runs side by side: what is not the same is found, and what only looks different is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from past_runs import at, everything, fill, make_run, message, talk

from fleet.base.errors import RunError
from fleet.record.run_folder import Run
from fleet.report.comparison import save
from fleet.results.compare import chosen, compare, comparison_table, first_difference, transcript
from fleet.results.merged_database import opened


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Run]:
    """Makes finished runs in one folder, numbered by their age."""

    def make(number: int, rows: Any, nodes: Any = None) -> Run:
        run = make_run(tmp_path / "runs", number, nodes)
        fill(run, rows)
        return run

    return make


def transcript_of(run: Run) -> list[dict[str, Any]]:
    with opened(run.path) as db:
        return transcript(db)


def later(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same rows at another time, of another length, with other nonces and in other rows."""
    for tables in rows.values():
        for name, found in tables.items():
            for n, row in enumerate(found):
                clock = {"timestamp": at(500 + n), "started_at": at(400 + n), "ended_at": at(450 + n)}
                row |= {key: value for key, value in clock.items() if key in row or key == "timestamp" != name}
                row |= {"commitment": "x", "nonce": "y"} if name == "game_rounds" else {}
                row |= {"seconds": 9.0, "tokens_per_second": 1.0} if name == "generations" else {}
                row |= {"duration_seconds": 99, "memory_usage_peak": 1.0} if name == "experiment_cycles" else {}
                row.pop("timestamp") if name == "experiment_cycles" else None
                row |= {"message_id": 1000 + n} if name == "messages" else {}
    return rows


def test_times_nonces_nodes_and_numbers_of_rows_are_no_differences(make: Callable[..., Run]):
    one = make(1, everything(), {"a": "jetson", "b": "rpi1"})
    other = make(2, later(everything()), {"a": "rpi1", "b": "jetson"})
    assert transcript_of(one) == transcript_of(other) != []
    found = compare([one, other])
    assert found["transcripts"][0] | {"rows": 0} == {
        "runs": [one.run_id, other.run_id], "identical": True, "rows": 0, "not_in_the_other": [0, 0], "first": None,
    }  # fmt: skip
    assert "nodes" in found["differences"]
    assert not {"transcript", "messages", "lives", "deaths", "created", "code", "models"} & set(found["differences"])


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("messages", "content", "something else"), ("messages", "remembered", ""), ("messages", "emotion", "fear"),
        ("messages", "injected", 1), ("self_reports", "response", "I am nobody."),
        ("epistemic_assessments", "confidence", 0.1), ("game_rounds", "own_move", "defect"),
        ("game_rounds", "remembered_json", "null"), ("negotiations", "asked", 4), ("shared_memory", "content", "?"),
        ("consensus", "outcome", "yes"), ("observations", "observation_text", "It laughs."),
    ],
)  # fmt: skip
def test_whatever_a_mind_did_otherwise_is_a_difference(make: Callable[..., Run], table: str, column: str, value: Any):
    changed = everything()
    changed["b"][table][-1][column] = value
    one, other = make(1, everything()), make(2, changed)
    (pair,) = compare([one, other])["transcripts"]
    assert pair["identical"] is False
    assert pair["not_in_the_other"] == [1, 1]
    assert pair["first"]["table"] == table
    assert [row["instance"] for row in pair["first"]["in"]] == ["b", "b"]
    assert pair["first"]["in"][1][column] == value


def test_the_first_difference_is_the_earliest_round_whatever_came_later(make: Callable[..., Run]):
    one = make(1, talk(6))
    other = make(2, talk(6, b3="no", a5="no"))
    first = compare([one, other])["transcripts"][0]["first"]
    assert (first["round"], first["who"], first["table"]) == (3, "b", "messages")
    assert [row["content"] for row in first["in"]] == ["b says 3", "no"]


def test_a_transcript_that_ends_earlier_differs_where_it_ends(make: Callable[..., Run]):
    one, other = make(1, talk(3)), make(2, talk(2))
    (pair,) = compare([one, other])["transcripts"]
    assert pair["first"]["round"] == 3
    assert pair["first"]["in"][1] is None
    assert pair["not_in_the_other"] == [4, 0]


def test_messages_of_a_round_stay_in_the_order_in_which_their_mind_had_them(make: Callable[..., Run]):
    rows = {
        "a": {"messages": [message("voice", 1, "z", injected=1), message("a", 1, "first"), message("b", 1, "second")]}
    }
    assert [row["content"] for row in transcript_of(make(1, rows))] == ["z", "first", "second"]


def test_equal_transcripts_have_no_difference():
    assert first_difference([{"x": 1}], [{"x": 1}]) is None
    assert first_difference([], []) is None
    assert first_difference([{"x": 1}], []) == ({"x": 1}, None)


def test_what_came_of_each_run_stands_side_by_side(make: Callable[..., Run]):
    changed = everything()
    changed["a"]["game_rounds"][0] |= {"own_move": "defect", "own_payoff": 5}
    changed["a"]["experiment_cycles"][0]["death_cause"] = "signal"
    one, other = make(1, everything()), make(2, changed)
    found = compare([one, other])
    facts = found["runs"][one.run_id]
    assert facts["lives"] == {"a": 2, "b": 2}
    assert facts["deaths"] == {"all": 2, "out_of_memory": 2}
    assert found["runs"][other.run_id]["deaths"] == {"all": 2, "out_of_memory": 1, "signal": 1}
    assert facts["tokens/s"] == {"jetson": 40.0, "rpi1": 40.0}
    assert facts["cooperation rate"] == {"a": 1.0, "b": 1.0}
    assert found["runs"][other.run_id]["cooperation rate"] == {"a": 0.5, "b": 1.0}
    assert facts["beliefs at last"] == {"a: mortality": "true 70%", "b: mortality": "true 70%"}
    assert facts["seeds"] == {"a": 7, "b": 7}
    assert {"deaths", "cooperation rate", "score", "transcript"} == set(found["differences"])
    lines = comparison_table(found).splitlines()
    assert any(line.startswith("*") and "cooperation rate" in line and "a 0.5" in line for line in lines)
    assert "first differ in round 1, game_rounds of a" in comparison_table(found)


def test_more_than_two_runs_are_held_against_the_first(make: Callable[..., Run]):
    runs = [make(1, talk()), make(2, talk(a1="?")), make(3, talk())]
    assert [pair["identical"] for pair in compare(runs)["transcripts"]] == [False, True]


def test_runs_without_a_database_are_compared_by_what_is_known(make: Callable[..., Run], tmp_path: Path):
    one, other = make(1, talk()), make_run(tmp_path / "runs", 2)
    found = compare([one, other])
    assert found["transcripts"][0]["identical"] is False
    assert "messages" not in found["runs"][other.run_id]
    alone = compare([other, make_run(tmp_path / "runs", 3)])
    assert alone["transcripts"][0]["identical"] is None
    assert "no transcript to compare" in comparison_table(alone)


def test_by_default_the_newest_is_compared_with_the_one_before_it(make: Callable[..., Run], tmp_path: Path):
    runs = [make(number, talk()) for number in (1, 2, 3)]
    folder = str(tmp_path / "runs")
    assert [run.run_id for run in chosen(folder, [])] == [runs[1].run_id, runs[2].run_id]
    assert [run.run_id for run in chosen(folder, [runs[2].run_id, runs[0].run_id])] == [runs[2].run_id, runs[0].run_id]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ([], "no other run of this experiment"),
        (["split_brain_20261125T120001Z_0000"] * 2, "at least two"),
        (["split_brain_20261125T120001Z_0000", "split_brain_20261125T120001Z_ffff"], "did you mean"),
    ],
)
def test_what_cannot_be_compared_is_refused(make: Callable[..., Run], tmp_path: Path, wanted: list[str], says: str):
    make(1, talk())
    with pytest.raises(RunError, match=says):
        chosen(str(tmp_path / "runs"), wanted)


def test_a_comparison_is_kept_as_json_or_as_a_page(make: Callable[..., Run], tmp_path: Path):
    found = compare([make(1, talk()), make(2, talk(a2="<script>alert(1)</script>"))])
    data, page = tmp_path / "c.json", tmp_path / "c.html"
    assert save(found, data, check=True)
    assert not data.exists()
    assert save(found, data)
    assert not save(found, data)
    assert json.loads(data.read_text()) == found
    assert save(found, page)
    assert "&lt;script&gt;" in page.read_text()
    assert "<script" not in page.read_text()
    with pytest.raises(RunError, match="set compare_out"):
        save(found, tmp_path / "nowhere" / "c.json")
