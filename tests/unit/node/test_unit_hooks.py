"""What ExecStopPost writes down. (systemd itself runs it in the integration tests.)"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from contract.exits import Ways, cause_of
from node.unit_hooks import delay

ROOT = Path(__file__).parents[3]

GOOD = ("success", "exited", "0")
TERM = ("success", "killed", "TERM")
KILL = ("signal", "killed", "KILL")


def stop_post(folder: Path, unit: str, ended: tuple[str, str, str], **more: str) -> subprocess.CompletedProcess[str]:
    instance = folder / "instance.json"
    description = {"run_id": "r", "id": "a", "node": "rpi1", "dir": str(folder), "llama_url": "http://127.0.0.1:1"}
    instance.write_text(json.dumps(description))
    ends = dict(zip(("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS"), ended, strict=True))
    environment = {**os.environ, **ends, **more}
    return subprocess.run(
        [sys.executable, "-m", "node", "ended", str(folder), unit],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "logs" / "exits.jsonl").read_text().splitlines()]


def systemctl(folder: Path, *says: str) -> str:
    """A PATH on which systemctl says this."""
    tools = folder / "bin"
    tools.mkdir()
    (tools / "systemctl").write_text("#!/bin/sh\nprintf '%s\\n' " + " ".join(f"'{line}'" for line in says) + "\n")
    (tools / "systemctl").chmod(0o755)
    return f"{tools}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("restarts", "lived", "seconds"),
    [(0, 0, 0), (2, 0.1, 0), (3, 0.1, 1), (4, 0.1, 2), (5, 0.1, 4), (6, 0.1, 4), (50, 0.1, 4), (50, 5.1, 0)],
)
def test_what_dies_early_again_and_again_is_started_later(restarts: int, lived: float, seconds: float) -> None:
    shown = {
        "NRestarts": f"{restarts}",
        "ExecMainStartTimestampMonotonic": "1000000",
        "ExecMainExitTimestampMonotonic": f"{1000000 + lived * 1e6:.0f}",
    }
    assert delay(shown) == seconds
    assert delay({}) == 0


def test_a_completed_workload_has_an_outcome_and_every_end_a_line(tmp_path: Path) -> None:
    stop_post(tmp_path, "llama", ("oom-kill", "killed", "KILL"))
    assert not (tmp_path / "outcome.json").exists()
    stop_post(tmp_path, "workload", GOOD)
    outcome = (tmp_path / "outcome.json").read_text()
    assert json.loads(outcome)["outcome"] == "COMPLETED"
    stop_post(tmp_path, "workload", GOOD)
    assert (tmp_path / "outcome.json").read_text() == outcome
    found = [(end["unit"], end["result"], end["code"], end["status"], end["cause"]) for end in lines(tmp_path)]
    completed = ("workload", *GOOD, "completed")
    assert found == [("llama", "oom-kill", "killed", "KILL", "out_of_memory"), completed, completed]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["instance.json", "logs", "outcome.json"]


@pytest.mark.parametrize(
    ("unit", "ended", "cause"),
    [
        ("llama", GOOD, "exit"),
        ("workload", KILL, "signal"),
        ("workload", ("core-dump", "dumped", "SEGV"), "signal"),
        ("workload", ("exit-code", "exited", "78"), "exit"),
        ("workload", ("timeout", "exited", "0"), "exit"),
    ],
)
def test_any_other_end_is_no_completion(tmp_path: Path, unit: str, ended: tuple[str, str, str], cause: str) -> None:
    stop_post(tmp_path, unit, ended, PATH=systemctl(tmp_path, "Job="))
    assert not (tmp_path / "outcome.json").exists()
    assert [end["cause"] for end in lines(tmp_path)] == [cause]


@pytest.mark.parametrize(
    ("outcome", "unit", "ended", "cause"),
    [
        ("STOPPED", "workload", TERM, "stopped"),
        ("STOPPED", "workload", GOOD, "stopped"),
        ("STOPPED", "llama", GOOD, "stopped"),
        ("FAILED", "llama", TERM, "stopped"),
        ("FENCED", "workload", TERM, "fenced"),
        ("FENCED", "llama", ("timeout", "killed", "KILL"), "fenced"),
        ("COMPLETED", "llama", GOOD, "completed"),
        ("COMPLETED", "llama", TERM, "completed"),
        ("COMPLETED", "llama", KILL, "signal"),
    ],
)
def test_what_an_outcome_says_is_why_a_unit_was_stopped(
    tmp_path: Path, outcome: str, unit: str, ended: tuple[str, str, str], cause: str
) -> None:
    (tmp_path / "outcome.json").write_text(json.dumps({"outcome": outcome}))
    stop_post(tmp_path, unit, ended)
    assert [end["cause"] for end in lines(tmp_path)] == [cause]
    assert json.loads((tmp_path / "outcome.json").read_text()) == {"outcome": outcome}


@pytest.mark.parametrize("ended", [GOOD, TERM, ("exit-code", "exited", "1")])
def test_what_systemd_stops_completes_nothing(tmp_path: Path, ended: tuple[str, str, str]) -> None:
    """A shutdown has every unit stopped; a program that exits 0 on SIGTERM has not completed then."""
    stop_post(tmp_path, "workload", ended, PATH=systemctl(tmp_path, "Job=1239"))
    assert not (tmp_path / "outcome.json").exists()
    assert [end["cause"] for end in lines(tmp_path)] == ["stopped"]


def test_sigterm_by_somebody_else_is_a_signal(tmp_path: Path) -> None:
    stop_post(tmp_path, "workload", TERM, PATH=systemctl(tmp_path, "Job="))
    assert [end["cause"] for end in lines(tmp_path)] == ["signal"]


@pytest.mark.parametrize(("ended", "cause"), [(GOOD, "completed"), (TERM, "stopped"), (KILL, "signal")])
def test_without_systemctl_an_end_is_still_written_down(
    tmp_path: Path, ended: tuple[str, str, str], cause: str
) -> None:
    assert "does not tell" in stop_post(tmp_path, "workload", ended, PATH=str(tmp_path)).stderr
    assert [end["cause"] for end in lines(tmp_path)] == [cause]
    assert (tmp_path / "outcome.json").exists() is (cause == "completed")


def test_an_end_is_out_of_memory_when_the_kernel_has_killed_for_it_and_the_end_is_a_kill() -> None:
    def why(result: str, code: str, status: str, out_of_memory: bool) -> str:
        return cause_of("workload", Ways(result, code, status), "", out_of_memory, False)

    assert why("oom-kill", "killed", "KILL", False) == "out_of_memory", "version 2: systemd knows"
    assert why("signal", "killed", "KILL", True) == "out_of_memory", "version 1: only the kernel counts"
    assert why("signal", "killed", "KILL", False) == "signal"
    assert why("exit-code", "exited", "1", True) == "exit", "a child was killed, the process itself ended otherwise"
    assert why("success", "exited", "0", True) == "completed"


def test_systemd_says_when_the_process_began_and_ended(tmp_path: Path) -> None:
    now = int(time.monotonic() * 1e6)
    times = (f"ExecMainStartTimestampMonotonic={now - 9_000_000}", f"ExecMainExitTimestampMonotonic={now - 2_000_000}")
    stop_post(tmp_path, "workload", KILL, PATH=systemctl(tmp_path, "Job=", *times), INVOCATION_ID="i1")
    (end,) = lines(tmp_path)
    assert end["lived_seconds"] == 7
    assert end["started_at"] < end["time"]
    assert end["time"].endswith("+00:00")
    assert (end["node"], end["cycle"], end["invocation"]) == ("rpi1", None, "i1")


def test_a_process_that_never_began_has_no_lifetime(tmp_path: Path) -> None:
    never = ("Job=", "ExecMainStartTimestampMonotonic=0", "ExecMainExitTimestampMonotonic=0")
    stop_post(tmp_path, "workload", ("resources", "", ""), PATH=systemctl(tmp_path, *never))
    (end,) = lines(tmp_path)
    assert (end["started_at"], end["lived_seconds"], end["cause"]) == (None, None, "exit")


def test_a_line_that_cannot_be_written_does_not_keep_the_work_from_being_complete(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    assert stop_post(tmp_path, "workload", GOOD).stderr.count("jarfleet: ended: ") == 1
    assert json.loads((tmp_path / "outcome.json").read_text())["outcome"] == "COMPLETED"


@pytest.mark.parametrize("unit", ["workload", "nonsense"])
def test_a_failure_is_reported_and_does_not_fail_the_unit(tmp_path: Path, unit: str) -> None:
    (tmp_path / "instance.json").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "node", "ended", str(tmp_path), unit],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.startswith("jarfleet: ended: ")
