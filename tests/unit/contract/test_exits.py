"""The exit log: what is an exit, what caused it, and which exits are deaths."""

import json
from pathlib import Path
from typing import Any

from contract.exits import CAUSES, Exit, Ways, cause_of, is_death, read_exits


def log(folder: Path, *lines: dict[str, Any], torn: str = "") -> Path:
    path = folder / "exits.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)
    return path


def test_every_exit_is_a_death_but_a_completion_and_a_stop(tmp_path: Path) -> None:
    causes = ("out_of_memory", "signal", "exit", "node_lost", "fenced", "completed", "stopped")
    lines = [{"unit": "workload", "result": "", "cause": cause} for cause in causes]
    found = read_exits(log(tmp_path, *lines, {"unit": "llama", "result": "signal", "cause": "signal"}))
    assert (found.deaths("workload"), found.deaths("llama")) == (5, 1)
    assert {cause for cause in CAUSES if not is_death(cause)} == {"completed", "stopped"}


def test_a_torn_line_hides_no_other(tmp_path: Path) -> None:
    found = read_exits(log(tmp_path, {"unit": "llama", "cause": "signal"}, torn='{"unit": "llama", "re'))
    assert found.deaths("llama") == 1
    assert found.faults == ()


def test_exits_without_a_cause_count_by_systemds_words(tmp_path: Path) -> None:
    """Of instances that were started before causes were written down."""
    lines = [
        {"unit": "llama", "result": "signal", "code": "killed", "status": "KILL"},
        {"unit": "llama", "result": "success", "code": "exited", "status": "0"},
        {"unit": "workload", "result": "success", "code": "exited", "status": "0"},
        {"unit": "workload", "result": "signal", "code": "killed", "status": "TERM"},
        {"unit": "workload", "result": "exit-code", "code": "exited", "status": "3"},
    ]
    found = read_exits(log(tmp_path, *lines))
    assert [one.cause for one in found.exits] == ["signal", "exit", "completed", "stopped", "exit"]


def test_a_termination_that_somebody_ordered_is_no_death_wherever_it_is_counted() -> None:
    """SIGTERM counted as a death in a node's count and as none in the merged database."""
    cause = cause_of("workload", Ways("signal", "killed", "TERM"))
    assert cause == "stopped"
    assert not is_death(cause)


def test_without_an_exit_log_nobody_died(tmp_path: Path) -> None:
    assert read_exits(tmp_path / "exits.jsonl").exits == ()


def test_an_exit_that_was_logged_twice_is_one(tmp_path: Path) -> None:
    twice = {"unit": "llama", "cause": "signal", "invocation": "i1"}
    found = read_exits(log(tmp_path, twice, {**twice, "cause": "exit"}, {**twice, "invocation": "i2"}))
    assert [(one.cause, one.invocation) for one in found.exits] == [("signal", "i1"), ("signal", "i2")]


def test_a_line_that_is_no_exit_is_named_and_one_with_a_wrong_field_is_kept(tmp_path: Path) -> None:
    lines = [{"unit": "cron"}, {"unit": "llama", "cause": ["x"], "lived_seconds": "long"}]
    found = read_exits(log(tmp_path, *lines))
    assert found.exits == (Exit("llama", cause="exit"),)
    assert [fault.split(": ", 2)[1] for fault in found.faults] == ["line 1", "line 2", "line 2"]
