"""The connection that stays open: reports at changes, renewals, and one controller at a time."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract import names
from contract.attention import Attend, Report
from node import attendance
from node.errors import NodeError


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attend:
    monkeypatch.setattr(names, "CONTROLLERS_FOLDER", str(tmp_path / "controllers"))
    monkeypatch.setattr(names, "LEASES_FOLDER", str(tmp_path / "leases"))
    (tmp_path / "work" / "instances").mkdir(parents=True)
    return Attend(str(tmp_path / "work"), "jar", "first", 1, 600.0, 90.0, 95.0)


class Connection:
    """One connection: what is sent, and the reports that come."""

    def __init__(self, given: Attend, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reports: list[Report] = []
        self._came = threading.Condition()
        monkeypatch.setattr(attendance, "_say", self._said)
        reading, writing = os.pipe()
        self._lines = os.fdopen(writing, "wb", buffering=0)
        self._thread = threading.Thread(target=attendance.attend, args=(given, os.fdopen(reading, "rb")), daemon=True)
        self._thread.start()

    def _said(self, report: Report) -> None:
        with self._came:
            self.reports.append(report)
            self._came.notify_all()

    def until(self, condition: Callable[[Report], object]) -> Report:
        with self._came:
            assert self._came.wait_for(lambda: any(map(condition, self.reports)), 30)
            return next(one for one in self.reports if condition(one))

    def send(self, line: bytes) -> None:
        self._lines.write(line)

    def close(self) -> None:
        self._lines.close()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def connection(given: Attend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    opened = Connection(given, monkeypatch)
    yield opened
    opened.close()


def test_it_reports_at_once_and_at_every_change_and_ends_with_its_connection(
    given: Attend, connection: Connection
) -> None:
    first = connection.until(lambda report: True)
    assert first.clock > 0
    assert first.state.ram_gb > 0
    folder = Path(names.instance_folder(given.work_dir, "x_20261123T141500Z_aaaa", "a"))
    for made in (folder.parent, folder, folder / "logs"):
        count = len(connection.reports)
        made.mkdir()
        connection.until(lambda report, count=count: len(connection.reports) > count)
    count = len(connection.reports)
    (folder / "logs" / "exits.jsonl").write_text("{}\n")
    connection.until(lambda report: len(connection.reports) > count)


@pytest.mark.parametrize(
    "line",
    [
        b"x",
        b"{}",
        b'{"instance_ref": {"run_id": "../x", "id": "a", "node": "n", "work_dir": "/w", "owner": "jar"}, "lease": 1}',
        json.dumps(
            {
                "instance_ref": {"run_id": "../x", "id": "a", "node": "n", "work_dir": "/w", "owner": "jar"},
                "lease": {"boot": "b", "until": 1.0, "epoch": 1},
            }
        ).encode(),
    ],
)
def test_what_is_no_renewal_is_refused_and_told(connection: Connection, line: bytes) -> None:
    connection.send(line + b"\n")
    assert connection.until(lambda report: report.refused).refused[0]


def test_a_newer_connection_takes_the_place_of_an_older_one(
    given: Attend, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.until(lambda report: True)
    attendance._admit(given)
    connection.send(b"x\n")  # anything that wakes it
    assert connection.until(lambda report: report.closing).closing == "another connection attends this node now"


def test_another_controller_is_let_in_only_when_it_was_told_to_take_over(given: Attend) -> None:
    def attends(controller: str, term: int, *, takeover: bool = False) -> None:
        values = {**given.to_json(), "controller": controller, "term": term, "takeover": takeover}
        attendance._admit(Attend.from_json(values, "attend"))

    attends("first", 1)
    attends("first", 1)
    with pytest.raises(NodeError, match="attended by 'first', and 'second' was not told to take over"):
        attends("second", 2)
    attends("second", 2, takeover=True)
    attends("second", 2, takeover=True)
    with pytest.raises(NodeError, match="attended by 'second'"):
        attends("first", 1)
    with pytest.raises(NodeError, match="attended by 'second'"):
        attends("first", 1, takeover=True)
    attends("first", 3, takeover=True)
