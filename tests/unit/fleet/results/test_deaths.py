"""The table of all lives: every end once, as its node reported it, else as the run's events do."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from contract.events import Collected, Launched, NodeLost, StatusChanged
from fleet.base.errors import MergeError
from fleet.record.run_folder import Run
from fleet.results import deaths
from fleet.results.merge import merge
from fleet.results.merged_database import opened
from fleet.results.summary import closing_summary, last_exits

RUN = "x_20261123T141500Z_3f2a"
MIB = 2**20
COLUMNS = [
    "run_id", "instance", "node", "life", "unit", "started_at", "ended_at", "lived_seconds", "cause", "detail",
    "memory_peak_mb", "memory_limit_mb", "cycle_number",
]  # fmt: skip
NODES = {"a": "rpi1", "b": "jetson"}


def end(unit: str, cause: str, invocation: str, at: str = "10:00:09", **changes: Any) -> dict[str, Any]:
    return {
        "time": f"2026-11-25T{at}.000+00:00",
        "unit": unit,
        "result": "signal",
        "code": "killed",
        "status": "KILL",
        "cause": cause,
        "started_at": "2026-11-25T10:00:00.500+00:00",
        "lived_seconds": 8.5,
        "cycle": 3,
        "node": "rpi1",
        "invocation": invocation,
        "memory": {"unit_peak": 507 * MIB, "slice_peak": 512 * MIB, "limit": 512 * MIB, "oom_kills": 1},
        **changes,
    }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, RUN, {}, {})


def leave(run: Run, id: str, *ends: dict[str, Any], torn: str = "") -> None:
    text = "".join(json.dumps(each) + "\n" for each in ends) + torn
    (run.path / "logs" / f"{id}.exits.jsonl").write_text(text)


def table(run: Run, columns: str = "*") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(run.path / "experiments.db")) as db:
        return db.execute(f"SELECT {columns} FROM deaths ORDER BY rowid").fetchall()


def test_every_end_is_a_life_with_its_time_cause_and_memory(run: Run):
    leave(run, "a", end("workload", "out_of_memory", "i1"))
    assert deaths.write_deaths(run, {"a": "rpi1"}, {})
    (row,) = table(run, ", ".join(COLUMNS))
    assert dict(zip(COLUMNS, row, strict=True)) == {
        "run_id": RUN, "instance": "a", "node": "rpi1", "life": 1, "unit": "workload",
        "started_at": "2026-11-25T10:00:00.500+00:00", "ended_at": "2026-11-25T10:00:09.000+00:00",
        "lived_seconds": 8.5, "cause": "out_of_memory", "detail": "killed: out of memory",
        "memory_peak_mb": 507.0, "memory_limit_mb": 512.0, "cycle_number": 3,
    }  # fmt: skip
    with opened(run.path) as db:
        assert list(db.tables["deaths"]) == [*COLUMNS, "source_rowid"]


def test_lives_are_numbered_by_instance_and_unit_and_those_that_completed_are_among_them(run: Run):
    leave(
        run, "a", end("workload", "signal", "w1"), end("llama", "signal", "l1"), end("workload", "exit", "w2"),
        end("workload", "completed", "w3"), end("llama", "completed", "l2"),
    )  # fmt: skip
    leave(run, "b", end("workload", "stopped", "w1"))
    deaths.write_deaths(run, NODES, {})
    assert table(run, "instance, unit, life, cause") == [
        ("a", "workload", 1, "signal"),
        ("a", "llama", 1, "signal"),
        ("a", "workload", 2, "exit"),
        ("a", "workload", 3, "completed"),
        ("a", "llama", 2, "completed"),
        ("b", "workload", 1, "stopped"),
    ]
    assert [(death["instance"], death["unit"], death["life"]) for death in deaths.read_deaths(run.path)] == [
        ("a", "workload", 1),
        ("a", "llama", 1),
        ("a", "workload", 2),
    ]


def test_recording_again_changes_nothing_and_one_more_end_adds_one(run: Run):
    leave(run, "a", end("workload", "signal", "w1"))
    leave(run, "b", end("workload", "signal", "w1"))
    assert deaths.write_deaths(run, NODES, {})
    before = (run.path / "experiments.db").read_bytes()
    assert not deaths.write_deaths(run, NODES, {})
    assert not deaths.write_deaths(run, {"a": "rpi1"}, {}), "those that were not asked about stay"
    assert (run.path / "experiments.db").read_bytes() == before
    leave(run, "a", end("workload", "signal", "w1"), end("workload", "exit", "w2"))
    assert deaths.write_deaths(run, {"a": "rpi1"}, {})
    assert table(run, "instance, life") == [("b", 1), ("a", 1), ("a", 2)]


def test_an_end_that_is_written_twice_is_one(run: Run):
    leave(run, "a", end("workload", "signal", "w1"), end("workload", "exit", "w1"), end("llama", "signal", "w1"))
    deaths.write_deaths(run, {"a": "rpi1"}, {})
    assert table(run, "unit, cause") == [("workload", "signal"), ("llama", "signal")]


def test_ends_of_a_program_outside_of_systemd_have_no_name_and_all_count(run: Run):
    leave(run, "a", end("workload", "signal", ""), end("workload", "signal", ""))
    deaths.write_deaths(run, {"a": "rpi1"}, {})
    assert table(run, "life") == [(1,), (2,)]


def test_a_line_that_is_torn_or_nonsense_costs_no_other(run: Run):
    nonsense = {"unit": "workload", "cause": ["x"], "time": {}, "memory": "much", "lived_seconds": "long", "node": 5}
    leave(run, "a", nonsense, end("workload", "signal", "w2"), torn='{"unit": "workl')
    deaths.write_deaths(run, {"a": "rpi1"}, {})
    assert table(run, "life, node, cause, lived_seconds") == [(1, "rpi1", "exit", None), (2, "rpi1", "signal", 8.5)]


def test_ends_from_before_causes_were_written_down_are_reported_by_systemd_s_words(run: Run):
    def old(result: str, code: str, status: str) -> dict[str, Any]:
        return {"time": "t", "unit": "workload", "result": result, "code": code, "status": status}

    leave(run, "a", old("oom-kill", "killed", "KILL"), old("exit-code", "exited", "3"), old("success", "exited", "0"))
    deaths.write_deaths(run, {"a": "rpi1"}, {})
    assert table(run, "cause, detail") == [
        ("out_of_memory", "killed: out of memory"),
        ("exit", "ended with exit code 3"),
        ("completed", "completed"),
    ]


def watched(run: Run) -> None:
    """A run that has begun on both nodes."""
    for id, node in NODES.items():
        run.append(Launched(instance=f"{id}@{node}", status="RUNNING"))
        run.append(StatusChanged(node=node, instance=id, status="RUNNING"))


def test_an_instance_that_went_with_its_node_and_never_came_back_died_with_it(run: Run):
    watched(run)
    run.append(NodeLost(node="rpi1", last_heard="2999-01-01T00:00:00+00:00", reason="timed out"))
    statuses = {"a": "LOST", "b": "COMPLETED"}
    assert deaths.write_deaths(run, NODES, statuses)
    assert not deaths.write_deaths(run, NODES, statuses)
    ((instance, node, life, unit, cause, ended, lived),) = table(
        run, "instance, node, life, unit, cause, ended_at, lived_seconds"
    )
    assert (instance, node, life, unit, cause) == ("a", "rpi1", 1, "workload", "node_lost")
    assert ended == "2999-01-01T00:00:00.000+00:00"
    assert lived > 0


def test_of_a_later_life_nobody_reported_when_it_began(run: Run):
    watched(run)
    leave(run, "a", end("workload", "signal", "w1"), end("llama", "signal", "l1"))
    run.append(NodeLost(node="rpi1", reason="timed out"))
    deaths.write_deaths(run, NODES, {"a": "LOST"})
    assert table(run, "unit, life, cause, lived_seconds")[2:] == [("workload", 2, "node_lost", None)]


def test_a_node_that_comes_back_reports_it_itself(run: Run):
    watched(run)
    run.append(NodeLost(node="rpi1", reason="timed out"))
    deaths.write_deaths(run, NODES, {"a": "LOST"})
    own = end("workload", "node_lost", "w1", at="10:00:30")
    leave(run, "a", own, end("workload", "completed", "w2", at="10:01:00"))
    assert deaths.write_deaths(run, NODES, {"a": "COMPLETED"})
    assert table(run, "life, cause, ended_at") == [
        (1, "node_lost", own["time"]),
        (2, "completed", "2026-11-25T10:01:00.000+00:00"),
    ]


@pytest.mark.parametrize("came_back", ["status", "collected"])
def test_an_instance_that_was_heard_of_again_or_had_ended_did_not_die_with_the_node(run: Run, came_back: str):
    watched(run)
    run.append(StatusChanged(node="jetson", instance="b", status="COMPLETED"))
    for node in NODES.values():
        run.append(NodeLost(node=node, reason="timed out"))
    if came_back == "status":
        run.append(StatusChanged(node="rpi1", instance="a", status="RUNNING"))
    else:
        run.append(Collected(statuses={"a": "RUNNING"}))
    deaths.write_deaths(run, NODES, {"a": "LOST", "b": "LOST"})
    assert table(run) == []


def test_an_instance_that_could_not_be_collected_on_a_node_that_answers_is_not_dead(run: Run):
    watched(run)
    deaths.write_deaths(run, NODES, {"a": "LOST", "b": "LOST"})
    assert table(run) == []


def test_merging_leaves_the_table_alone(run: Run):
    leave(run, "a", end("workload", "signal", "w1"))
    deaths.write_deaths(run, {"a": "rpi1"}, {})
    with closing(sqlite3.connect(run.path / "db" / "a.db")) as db:
        db.execute("CREATE TABLE deaths (x)")
        db.execute("INSERT INTO deaths VALUES (1)")
        db.commit()
    assert merge(run.path, {"a": "rpi1"}, RUN)["problems"] == {}
    assert table(run, "cause") == [("signal",)]
    assert not deaths.write_deaths(run, {"a": "rpi1"}, {})


def test_a_database_that_is_none_is_named(run: Run):
    (run.path / "experiments.db").write_bytes(b"mine" * 1000)
    with pytest.raises(MergeError, match=r"experiments\.db"):
        deaths.write_deaths(run, NODES, {})


def test_the_closing_table_counts_deaths_and_reports_each(run: Run):
    leave(
        run, "a", end("workload", "out_of_memory", "w1", at="10:00:09"),
        end("workload", "exit", "w2", at="10:00:20", code="exited", status="3", memory={}, lived_seconds=None),
        end("llama", "stopped", "l1", at="10:00:30"),
    )  # fmt: skip
    leave(run, "b", end("workload", "completed", "w1"))
    assert deaths.read_deaths(run.path) == [], "nothing was collected"
    deaths.write_deaths(run, NODES, {})
    lines = closing_summary(run.path, NODES, {"a": "FAILED", "b": "COMPLETED"}, {}, {}).splitlines()
    column = lines[0].split().index("deaths")
    assert [(line.split()[0], line.split()[column]) for line in lines[1:3]] == [("a", "2"), ("b", "0")]
    rows_shown = lines[lines.index("deaths: 2") + 2 :][:2]
    assert [" ".join(line.split()) for line in rows_shown] == [
        "a workload 1 killed: out of memory 8.5 s 507 MB 512 MB",
        "a workload 2 ended with exit code 3 - - -",
    ]
    assert last_exits(run.path, ["a", "b", "c"]) == {"a": "ended with exit code 3", "b": "completed"}


def test_of_many_deaths_the_last_are_reported(run: Run):
    leave(run, "a", *(end("workload", "signal", f"w{n}", at=f"10:00:{n}") for n in range(10, 25)))
    deaths.write_deaths(run, {"a": "rpi1"}, {})
    lines = closing_summary(run.path, {"a": "rpi1"}, {}, {}, {}).splitlines()
    first = lines.index("deaths: 15; the last 10") + 2
    assert [line.split()[2] for line in lines[first : first + 10]] == [str(life) for life in range(6, 16)]
    assert lines[first + 10] == ""


def test_a_run_whose_folder_is_copied_elsewhere_is_recorded_the_same(run: Run, tmp_path: Path):
    leave(run, "a", end("workload", "signal", "w1"))
    deaths.write_deaths(run, {"a": "rpi1"}, {})
    copied = Run(Path(shutil.copytree(run.path, tmp_path / "elsewhere" / RUN)))
    assert not deaths.write_deaths(copied, {"a": "rpi1"}, {})
