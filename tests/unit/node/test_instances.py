"""What a node reports of its instances, whatever is in their files. (systemd is asked in the integration tests.)"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.description import InstanceDescription, Resources
from contract.outcome import Outcome
from node import instances, systemd

RUN = "split_brain_20261123T141500Z_3f2a"


@pytest.fixture(autouse=True)
def no_systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose systemd knows no unit; there may be none here to ask."""
    monkeypatch.setattr(systemd, "show", lambda names: {})
    return


def leave(work_dir: Path, id: str, run_id: str = RUN, **files: Any) -> Path:
    """An instance's folder with these files: text, bytes, or what becomes JSON."""
    folder = work_dir / "instances" / run_id / id
    (folder / "logs").mkdir(parents=True)
    resources = Resources(ram_gb=2, takes_ram_gb=2)
    description = InstanceDescription(
        RUN, id, folder, "http://127.0.0.1:9001", ports={"peer": 9000}, resources=resources
    )
    for name, content in {"instance.json": description.to_json(), **files}.items():
        path = folder / name
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        path.write_bytes(raw)
    return folder


def only(work_dir: Path) -> Any:
    (found,) = instances.read_instances(str(work_dir))
    return found


def test_an_instance_is_reported_with_what_its_files_say(tmp_path: Path) -> None:
    exits = b'{"unit": "llama", "cause": "signal"}\n{"unit": "workload", "cause": "completed"}\n{"unit": "ll'
    leave(tmp_path, "a", **{"progress.json": {"cycle": 2, "round": 3, "rounds": 6}, "logs/exits.jsonl": exits})
    found = only(tmp_path)
    assert (found.run_id, found.id, found.status, found.takes_ram_gb) == (RUN, "a", "PENDING", 2.0)
    assert (found.progress.cycle, found.progress.round) == (2, 3)
    assert found.deaths == {"workload": 0, "llama": 1}
    assert found.held_ports == (9000,)
    assert found.faults == ()


def test_an_outcome_counts_before_everything(tmp_path: Path) -> None:
    leave(tmp_path, "a", **{"outcome.json": {"outcome": "COMPLETED", "time": "2026-11-26T10:00:00Z"}})
    found = only(tmp_path)
    assert (found.status, found.ended, found.held_ports) == ("COMPLETED", "2026-11-26T10:00:00Z", ())
    assert instances.read_outcome(Path(found.dir)) == Outcome("COMPLETED", "2026-11-26T10:00:00Z")


NONSENSE = [
    ("instance.json", [1, 2], "instance.json: expected an object, found a list"),
    ("instance.json", b"{", "instance.json: not JSON"),
    ("instance.json", {"run_id": RUN, "id": "a", "dir": 5}, "instance.json: dir: expected a path, found 5"),
    ("instance.json", {"run_id": "other", "id": "a", "dir": "/", "llama_url": ""}, "which is not its folder"),
    ("outcome.json", {"outcome": "$(touch /tmp/x)"}, "outcome.json: outcome: '$(touch /tmp/x)' is none of COMPLETED"),
    ("outcome.json", b"\xff\xfe", "outcome.json: not JSON"),
    ("outcome.json", b" " * 5000, "outcome.json: larger than 4096 bytes"),
    ("progress.json", [1, 2], "progress.json: expected an object, found a list"),
    (
        "progress.json",
        {"round": "\x1b[31mred"},
        "progress.json: round: expected a whole number, found '\\x1b[31mred'",
    ),
    ("progress.json", b"[" * 60_000, "progress.json: not JSON"),
    ("progress.json", {"cycle": True}, "progress.json: cycle: expected a whole number, found True"),
    ("logs/exits.jsonl", b"[]\n", "exits.jsonl: line 1: expected an object, found a list"),
    ("logs/exits.jsonl", b'{"unit": "cron"}\n', "exits.jsonl: line 1: unit: 'cron' is none of workload, llama"),
]


@pytest.mark.parametrize(("name", "content", "fault"), NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_in_a_file_is_one_named_fault_of_that_instance_and_of_no_other(
    tmp_path: Path, name: str, content: Any, fault: str
) -> None:
    leave(tmp_path, "a", **{name: content})
    leave(tmp_path, "b")
    a, b = instances.read_instances(str(tmp_path))
    assert [fault in found for found in a.faults] == [True], a.faults
    assert (a.run_id, a.id, a.status) == (RUN, "a", "PENDING")
    assert (b.id, b.faults) == ("b", ())


@pytest.mark.parametrize("name", ["instance.json", "outcome.json", "progress.json", "logs/exits.jsonl"])
def test_a_pipe_in_place_of_a_file_stops_nobody(tmp_path: Path, name: str) -> None:
    folder = leave(tmp_path, "a")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert [Path(name).name in fault for fault in only(tmp_path).faults] == [True]


def test_what_is_no_instance_is_passed_over(tmp_path: Path) -> None:
    folder = leave(tmp_path, "a")
    for name in ("-x", "a b", "x" * 50):
        (folder.parent / name).mkdir()
        (folder.parent / name / "instance.json").write_text("{}")
    (folder.parent / "empty").mkdir()
    (folder.parent / "file").write_text("")
    (folder.parent / "link").symlink_to(folder)
    assert only(tmp_path).id == "a"
    assert instances.read_instances(str(tmp_path / "nowhere")) == []


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ({"ActiveState": "active"}, "RUNNING"),
        ({"ActiveState": "activating", "SubState": "start-pre"}, "PENDING"),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, "CRASHED"),
        ({"ActiveState": "failed"}, "FAILED"),
        ({"ActiveState": "inactive"}, "PENDING"),
        ({}, "PENDING"),
    ],
)
def test_without_an_outcome_systemd_says_the_status(shown: dict[str, str], status: str) -> None:
    assert instances.status(None, shown) == status
