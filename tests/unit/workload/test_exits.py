"""What ExecStopPost writes down. (systemd itself runs it in the integration tests.)"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

GOOD = ("success", "exited", "0")


def stop_post(folder: Path, unit: str, ended: tuple[str, str, str], **more: str) -> subprocess.CompletedProcess[str]:
    instance = folder / "instance.json"
    instance.write_text(json.dumps({"run_id": "r", "id": "a", "dir": str(folder), "llama_url": "http://127.0.0.1:1"}))
    ends = dict(zip(("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS"), ended, strict=True))
    environment = {**os.environ, "JARFLEET_INSTANCE": str(instance), **ends, **more}
    return subprocess.run(
        [sys.executable, "-m", "workload.exits", unit],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )


def lines(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "logs" / "exits.jsonl").read_text().splitlines()]


def test_a_completed_workload_has_an_outcome_and_every_end_a_line(tmp_path: Path) -> None:
    stop_post(tmp_path, "llama", ("oom-kill", "killed", "KILL"))
    assert not (tmp_path / "outcome.json").exists()
    stop_post(tmp_path, "workload", GOOD)
    outcome = (tmp_path / "outcome.json").read_text()
    assert json.loads(outcome)["outcome"] == "COMPLETED"
    stop_post(tmp_path, "workload", GOOD)
    assert (tmp_path / "outcome.json").read_text() == outcome
    found = [(end["unit"], end["result"], end["code"], end["status"]) for end in lines(tmp_path)]
    assert found == [("llama", "oom-kill", "killed", "KILL"), ("workload", *GOOD), ("workload", *GOOD)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["instance.json", "logs", "outcome.json"]


@pytest.mark.parametrize(
    ("unit", "ended"),
    [
        ("llama", GOOD),
        ("workload", ("success", "killed", "TERM")),
        ("workload", ("signal", "killed", "KILL")),
        ("workload", ("exit-code", "exited", "78")),
        ("workload", ("timeout", "exited", "0")),
    ],
)
def test_any_other_end_is_no_completion(tmp_path: Path, unit: str, ended: tuple[str, str, str]) -> None:
    stop_post(tmp_path, unit, ended)
    assert not (tmp_path / "outcome.json").exists()
    assert len(lines(tmp_path)) == 1


def test_a_node_that_goes_down_completes_nothing(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "systemctl").write_text("#!/bin/sh\necho stopping\nexit 1\n")  # what a node says that goes down
    (tools / "systemctl").chmod(0o755)
    stop_post(tmp_path, "workload", GOOD, PATH=f"{tools}:{os.environ['PATH']}")
    assert not (tmp_path / "outcome.json").exists()
    assert len(lines(tmp_path)) == 1


def test_without_systemctl_an_end_is_still_written_down(tmp_path: Path) -> None:
    assert "cannot tell" in stop_post(tmp_path, "workload", GOOD, PATH=str(tmp_path)).stderr
    assert (tmp_path / "outcome.json").exists()


@pytest.mark.parametrize("unit", ["workload", "nonsense"])
def test_a_failure_is_said_and_does_not_fail_the_unit(tmp_path: Path, unit: str) -> None:
    done = stop_post(tmp_path, unit, GOOD, JARFLEET_INSTANCE=str(tmp_path / "missing.json"))
    assert done.stderr.startswith("exits: ")
