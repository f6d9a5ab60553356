"""The exit log of an instance: every exit once, those too that nobody was there to log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from contract.exits import Exit
from contract.names import UNITS
from node import exit_log

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    description = {"run_id": "r", "id": "a", "node": "rpi1", "dir": str(tmp_path), "llama_url": "http://127.0.0.1:1"}
    (tmp_path / "instance.json").write_text(json.dumps(description))
    return tmp_path


def systemd_runs(folder: Path, hook: str, unit: str, invocation: str, **more: str) -> str:
    """Run what systemd runs around a start of a unit; what it says on stderr."""
    environment = {**os.environ, "INVOCATION_ID": invocation}
    done = subprocess.run(
        [sys.executable, "-m", "node", hook, str(folder), unit],
        cwd=ROOT,
        env={**environment, **more},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def starts(folder: Path, unit: str, invocation: str) -> None:
    assert systemd_runs(folder, "started", unit, invocation) == ""


def ends(folder: Path, unit: str, invocation: str, result: str, code: str, status: str) -> None:
    systemd_runs(
        folder, "ended", unit, invocation, SERVICE_RESULT=result, EXIT_CODE=code, EXIT_STATUS=status,
        PATH=str(folder),
    )  # fmt: skip


def cut_the_power(folder: Path, unit: str) -> None:
    """As if the start had been before the node's last boot, a minute ago."""
    path = folder / "logs" / f"{unit}.start.json"
    before = {"boot": "another", "started_at": exit_log.timestamp(time.time() - 60)}
    path.write_text(json.dumps({**json.loads(path.read_text()), **before}))


def exits(folder: Path, unit: str = "") -> list[Exit]:
    """The logged exits, of one unit if named."""
    found = exit_log.exits(folder)
    return found.of(unit) if unit else list(found.exits)


def logged_ends(folder: Path, unit: str = "") -> list[tuple[Any, ...]]:
    return [(end.unit, end.cause, end.invocation) for end in exits(folder, unit)]


def test_the_first_beginning_has_no_end_before_it(folder: Path) -> None:
    starts(folder, "workload", "i1")
    assert exits(folder) == []


def test_an_end_that_its_hook_has_logged_is_not_logged_again_by_the_next_beginning(folder: Path) -> None:
    starts(folder, "workload", "i1")
    ends(folder, "workload", "i1", "signal", "killed", "KILL")
    starts(folder, "workload", "i2")
    starts(folder, "workload", "i2")
    assert logged_ends(folder) == [("workload", "signal", "i1")]


def test_a_start_that_was_written_down_gives_the_lifetime_when_systemd_does_not(folder: Path) -> None:
    starts(folder, "workload", "i1")
    path = folder / "logs" / "workload.start.json"
    begun = json.loads(path.read_text())
    path.write_text(json.dumps({**begun, "monotonic": begun["monotonic"] - 1000}))  # as if it had lived that long
    ends(folder, "workload", "i1", "exit-code", "exited", "3")
    (end,) = exits(folder)
    assert end.lived_seconds >= 1000
    lived = datetime.fromisoformat(end.time) - datetime.fromisoformat(end.started_at)
    assert lived.total_seconds() == pytest.approx(end.lived_seconds, abs=0.002)


def test_a_start_of_another_process_gives_nothing(folder: Path) -> None:
    starts(folder, "workload", "i1")
    ends(folder, "workload", "i2", "exit-code", "exited", "3")
    (end,) = exits(folder)
    assert (end.started_at, end.lived_seconds, end.invocation) == (None, None, "i2")


def test_what_went_with_its_node_is_written_down_once_with_its_last_sign_of_life(folder: Path) -> None:
    for unit in UNITS:
        starts(folder, unit, f"{unit}1")
        cut_the_power(folder, unit)
    (folder / "progress.json").write_text('{"cycle": 4}')
    began = exit_log.last_start(folder, "workload").started_at
    last = datetime.fromisoformat(began).timestamp() + 30
    os.utime(folder / "progress.json", (last, last))
    for unit in ("llama", "workload"):
        starts(folder, unit, f"{unit}2")
        starts(folder, unit, f"{unit}2")
    assert logged_ends(folder) == [("llama", "node_lost", "llama1"), ("workload", "node_lost", "workload1")]
    (end,) = exits(folder, "workload")
    assert (end.time, end.started_at) == (exit_log.timestamp(last), began)
    assert end.lived_seconds == 30
    assert (end.cycle, end.node) == (4, "rpi1")


def test_an_instance_cannot_have_lived_longer_than_until_now(folder: Path) -> None:
    starts(folder, "workload", "i1")
    cut_the_power(folder, "workload")
    (folder / "progress.json").touch()
    os.utime(folder / "progress.json", (2**40, 2**40))
    starts(folder, "workload", "i2")
    (end,) = exits(folder)
    assert 59 < end.lived_seconds < 120


def test_an_instance_that_wrote_nothing_lived_at_least_until_it_began(folder: Path) -> None:
    starts(folder, "workload", "i1")
    cut_the_power(folder, "workload")
    starts(folder, "workload", "i2")
    (end,) = exits(folder)
    assert (end.cause, end.lived_seconds, end.time) == ("node_lost", 0, end.started_at)


def test_an_end_that_nobody_saw_on_a_node_that_stayed_up_is_not_its_node_s_fault(folder: Path) -> None:
    starts(folder, "workload", "i1")
    starts(folder, "workload", "i2")
    (end,) = exits(folder)
    assert end.cause == "exit"
    assert end.words == "ended; how is not known"


def test_the_next_line_is_not_lost_to_a_torn_one(folder: Path) -> None:
    exit_log.append(folder, Exit("llama", cause="exit"))
    with (folder / "logs" / "exits.jsonl").open("a") as file:
        file.write('{"unit": "llama", "cau')
    exit_log.append(folder, Exit("workload", cause="signal"))
    assert [end.cause for end in exits(folder)] == ["exit", "signal"]
    assert [end.cause for end in exits(folder, "workload")] == ["signal"]


def test_without_an_exit_log_there_are_no_exits(tmp_path: Path) -> None:
    assert exits(tmp_path) == []


def test_a_boot_is_named_the_same_all_along() -> None:
    name = exit_log.boot()
    assert name == exit_log.boot()
    assert len(name) > 36, "the kernel's id and more"


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ({"cause": "out_of_memory", "status": "KILL"}, "killed: out of memory"),
        ({"cause": "signal", "code": "killed", "status": "KILL"}, "killed by SIGKILL"),
        ({"cause": "exit", "code": "exited", "status": "1"}, "ended with exit code 1"),
        ({"cause": "exit", "code": "", "status": ""}, "ended; how is not known"),
        ({"cause": "exit"}, "ended; how is not known"),
        ({"cause": "node_lost"}, "its node was lost"),
        ({"cause": "stopped", "status": "TERM"}, "stopped"),
        ({"cause": "fenced", "status": "TERM"}, "fenced"),
        ({"cause": "completed", "status": "0"}, "completed"),
    ],
)
def test_an_end_in_words(end: dict[str, str], words: str) -> None:
    assert Exit("workload", **end).words == words


@pytest.mark.parametrize("unit", ["workload", "nonsense"])
def test_a_failure_is_reported_and_keeps_no_unit_from_starting(tmp_path: Path, unit: str) -> None:
    (tmp_path / "instance.json").write_text("{}")
    assert systemd_runs(tmp_path, "started", unit, "i1").startswith("jarfleet: started: ")
