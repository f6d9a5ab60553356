"""The relay as its unit runs it: a process over a folder in which a subject's file grows, and its observers."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Process, accepts, free_ports, wait_until

from contract.exits import EXIT, Exit
from node import exit_log
from workload import stream_relay
from workload.client import Unavailable, exchange, request
from workload.peers import CODE, EPOCH, NONCE, SENDER, Asked, Peer

KEY = "a5" * 32
LONG = 30.0  # an answer that must come before that, or the test never ends well


class Subject:
    """A folder as a subject fills it, and the relay on it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.dir, self.stream = folder / "subject", folder / "subject/logs/stream.jsonl"
        self.url = f"http://127.0.0.1:{port}"
        self.stream.parent.mkdir(parents=True)
        instance = {"run_id": "r", "id": "s", "dir": str(self.dir), "llama_url": "http://127.0.0.1:1", "port": port}
        (self.dir / "instance.json").write_text(json.dumps(instance))
        self.relay = Process(
            [sys.executable, "-B", "-m", "workload.stream_relay"],
            folder / "relay.log",
            {"JARFLEET_INSTANCE": str(self.dir / "instance.json")},
            {"o": KEY},
        )
        self.seen_by_observer = Peer("s", self.url, "o", KEY)
        self._port = port

    def open(self) -> None:
        self.relay.start()
        wait_until(lambda: accepts(self._port), "the relay is open")

    def write(self, text: str) -> None:
        with self.stream.open("a") as stream:
            stream.write(text)

    def say(self, *numbers: int, more: str = "") -> None:
        self.write("".join(message(number, more) for number in numbers))

    def files(self) -> dict[str, tuple[int, bytes]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in sorted(self.dir.rglob("*"))
        }


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Subject]:
    subject = Subject(tmp_path, free_ports(1)[0])
    subject.open()
    yield subject
    subject.relay.kill()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_observer_may_come_by_ipv6(subject: Subject) -> None:
    subject.say(1)
    by_ipv6 = Peer("s", subject.url.replace("127.0.0.1", "[::1]"), "o", KEY)
    assert [row["id"] for row in stream_relay.read(by_ipv6, 0, 0)[0]] == [1]


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def message(number: int, more: str = "") -> str:
    row = {"table": "messages", "id": number, "role": "assistant", "content": f"word {number} é{more}", "round": number}
    return json.dumps(row, ensure_ascii=False) + "\n"


def other(number: int) -> str:
    return json.dumps({"table": "generations", "id": number, "tokens": 8}) + "\n"


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]


def all_of(subject: Peer, after: int = 0) -> list[dict[str, Any]]:
    """Every message until the subject's end, as an observer asks for them."""
    rows, ended = [], False
    while not ended:
        more, ended = stream_relay.read(subject, after + len(rows), LONG)
        rows += more
    return rows


def test_the_messages_come_in_their_order_with_their_numbers_and_nothing_else_does(subject: Subject) -> None:
    subject.write(other(1) + message(1) + other(2) + other(3) + message(2) + message(3))
    assert subject.seen_by_observer.request("GET", "/stream?after=1") == (
        200,
        {
            "lines": [
                [n, {"id": n, "role": "assistant", "content": f"word {n} é", "round": n}] for n in (2, 3)
            ],
            "end": 3,
            "ended": False,
        },
    )  # fmt: skip
    assert stream_relay.read(subject.seen_by_observer, 3, 0) == ([], False)


def test_an_observer_waits_for_a_subject_that_has_not_begun_to_speak(
    subject: Subject, aside: ThreadPoolExecutor
) -> None:
    assert not subject.stream.exists()
    waiting: Future[Any] = aside.submit(stream_relay.read, subject.seen_by_observer, 0, LONG)
    assert stream_relay.read(subject.seen_by_observer, 0, 0) == ([], False)
    subject.say(1)
    rows, ended = waiting.result()
    assert (ids(rows), ended) == ([1], False)


def test_a_line_counts_once_it_is_whole(subject: Subject) -> None:
    line = message(2)
    subject.write(message(1) + line[:20])
    assert ids(stream_relay.read(subject.seen_by_observer, 0, 0)[0]) == [1]
    subject.write(line[20:-1])
    assert stream_relay.read(subject.seen_by_observer, 1, 0) == ([], False)
    subject.write(line[-1:] + message(3))
    assert ids(stream_relay.read(subject.seen_by_observer, 1, 0)[0]) == [2, 3]


def test_a_line_that_a_death_tore_is_written_anew_and_counts_once(subject: Subject) -> None:
    """The workload cuts the torn line off when it is back."""
    subject.write(message(1) + message(2)[:20])
    assert ids(stream_relay.read(subject.seen_by_observer, 0, 0)[0]) == [1]
    subject.stream.write_text(message(1))
    assert stream_relay.read(subject.seen_by_observer, 1, 0) == ([], False)
    subject.say(2)
    assert ids(stream_relay.read(subject.seen_by_observer, 0, 0)[0]) == [1, 2]


def test_the_end_is_reported_with_the_last_message_and_not_before(subject: Subject, aside: ThreadPoolExecutor) -> None:
    subject.say(*range(1, 2 * stream_relay.BATCH_LINES + 2))
    (subject.dir / "outcome.json").write_text("{}")
    first, ended = stream_relay.read(subject.seen_by_observer, 0, LONG)
    assert (len(first), ended) == (stream_relay.BATCH_LINES, False), "a batch, and there are more"
    assert ids(all_of(subject.seen_by_observer)) == list(range(1, 2 * stream_relay.BATCH_LINES + 2))
    assert stream_relay.read(subject.seen_by_observer, 2 * stream_relay.BATCH_LINES + 1, LONG) == ([], True)


def test_an_observer_that_waits_is_told_of_the_end(subject: Subject, aside: ThreadPoolExecutor) -> None:
    subject.say(1)
    waiting: Future[Any] = aside.submit(stream_relay.read, subject.seen_by_observer, 1, LONG)
    assert stream_relay.read(subject.seen_by_observer, 1, 0) == ([], False)
    (subject.dir / "outcome.json").write_text("{}")
    assert waiting.result() == ([], True)


@pytest.mark.parametrize(
    ("ended_before", "begun_since", "expected"),
    [(2 * stream_relay.GIVEN_UP, False, True), (2 * stream_relay.GIVEN_UP, True, False), (0, False, False)],
    ids=["given_up", "begun_again", "just_died"],
)
def test_an_observer_is_told_of_a_subject_that_is_started_no_more(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, ended_before: float, begun_since: bool, expected: bool
) -> None:
    """By its exit log, as systemd has it written."""
    subject.say(1)
    monkeypatch.setenv("INVOCATION_ID", "first")
    exit_log.log_start(subject.dir, "node", "workload")
    assert stream_relay.read(subject.seen_by_observer, 1, 0) == ([], False)
    at = exit_log.timestamp(time.time() - ended_before)
    exit_log.append(subject.dir, Exit("workload", time=at, invocation="first", cause=EXIT))
    if begun_since:
        monkeypatch.setenv("INVOCATION_ID", "second")
        exit_log.log_start(subject.dir, "node", "workload")
    assert stream_relay.read(subject.seen_by_observer, 1, 0) == ([], expected)


def test_an_answer_is_bounded_also_when_the_subject_is_long_winded(subject: Subject) -> None:
    for number in range(1, 4):
        subject.say(number, more="x" * (stream_relay.BATCH_BYTES * 2 // 3))
    assert ids(stream_relay.read(subject.seen_by_observer, 0, 0)[0]) == [1]
    subject.say(4, more="x" * 2 * stream_relay.BATCH_BYTES)
    assert ids(stream_relay.read(subject.seen_by_observer, 3, 0)[0]) == [4], (
        "one that is larger than a batch comes alone"
    )


def test_the_tap_may_die_and_many_may_read(subject: Subject, aside: ThreadPoolExecutor) -> None:
    subject.say(1, 2)
    assert len(stream_relay.read(subject.seen_by_observer, 0, 0)[0]) == 2
    subject.relay.kill()
    with pytest.raises(Unavailable):
        stream_relay.read(subject.seen_by_observer, 2, 0)
    subject.say(3)
    subject.open()
    readers = [aside.submit(all_of, subject.seen_by_observer, after) for after in (0, 2, 3)]
    subject.say(4, 5)
    (subject.dir / "outcome.json").write_text("{}")
    assert [ids(reader.result()) for reader in readers] == [[1, 2, 3, 4, 5], [3, 4, 5], [4, 5]]


def test_a_folder_put_back_to_an_older_state_is_read_anew(subject: Subject) -> None:
    subject.say(1, 2, 3)
    assert len(stream_relay.read(subject.seen_by_observer, 0, 0)[0]) == 3
    subject.stream.write_text(other(1) + message(1))
    assert ids(stream_relay.read(subject.seen_by_observer, 0, 0)[0]) == [1]
    assert stream_relay.read(subject.seen_by_observer, 3, 0) == ([], False)


def test_reading_leaves_the_subjects_folder_as_it_was(subject: Subject) -> None:
    subject.say(1, 2)
    (subject.dir / "outcome.json").write_text("{}")
    before = subject.files()
    assert len(all_of(subject.seen_by_observer)) == 2
    assert request(subject.url, "GET", "/health") == (200, {"status": "ok"})
    assert subject.files() == before


def test_only_who_has_an_observers_key_may_read(subject: Subject) -> None:
    subject.say(1)
    stranger = replace(subject.seen_by_observer, key="00" * 32)
    for other in (stranger, replace(stranger, own_id="s"), replace(stranger, own_id="")):
        with pytest.raises(Unavailable, match="answers 403, and not with the key of s"):
            stream_relay.read(other, 0, 0)
    assert request(subject.url, "GET", "/stream")[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/../instance.json", 404),
        ("GET", "/stream?after=-1", 400),
        ("GET", "/stream?after=one", 400),
        ("GET", f"/stream?after={2**80}", 400),
        ("GET", "/stream?wait=nan", 400),
        ("POST", "/stream", 501),
    ],
)
def test_what_is_no_question_is_refused(subject: Subject, method: str, path: str, status: int) -> None:
    asked = Asked("o", 1, "s", "5f", method, path, b"")
    headers = {SENDER: "o", EPOCH: "1", NONCE: "5f", CODE: asked.code(KEY)}
    assert exchange(subject.url, method, path, b"", headers, 10).status == status
    assert stream_relay.read(subject.seen_by_observer, 0, 0) == ([], False), "and the relay goes on"
