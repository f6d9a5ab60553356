"""An observer, a relay, and a subject that knows of neither: real processes, the observer killed in the middle."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import pytest
from conftest import Mind, Process, free_ports, wait_until

MakeMind = Callable[..., Mind]
QUIET = {"self_report_schedule": {"on_startup": False}, "track_beliefs": [], "collect_metrics": [], "max_tokens": 8}
ROUNDS = 6


@pytest.fixture
def watched(mind: MakeMind) -> Iterator[tuple[Mind, Mind]]:
    """A subject and its observer, not started, with the relay between them."""
    (port,) = free_ports(1)
    quiet = {**QUIET, "mode": "panopticon", "rounds": ROUNDS, "pause_seconds": 0.2}
    subject = mind(id="subject", port=port, instances=["subject"], workload={**quiet, "rounds_per_cycle": 2})
    observer = mind(
        id="observer", instances=["subject", "observer"], observes={"subject": f"http://127.0.0.1:{port}"},
        workload={**quiet, "tags": ["watching"]}, config={"prompt": "What is it?"},
    )  # fmt: skip
    relay = Process(
        [sys.executable, "-m", "workload.stream_relay", "none.service"],
        subject.dir / "relay.log",
        subject.environment,
        {"observer": observer.keys["subject"]},
    )
    relay.start()
    yield subject, observer
    relay.kill()


def test_an_observer_sees_every_round_word_by_word_though_it_is_killed(watched: tuple[Mind, Mind]) -> None:
    subject, observer = watched
    subject.start()
    observer.start()
    wait_until(lambda: observer.is_past(2), "it has seen two rounds")
    observer.kill()
    observer.start()
    assert (subject.wait(), observer.wait()) == (0, 0), subject.output() + observer.output()
    said = subject.rows("SELECT round, cycle_number, content FROM messages ORDER BY round")
    assert [row[0] for row in said] == list(range(1, ROUNDS + 1))
    seen = observer.rows("SELECT round, content FROM messages WHERE role = 'user' ORDER BY round")
    assert seen == [
        (round, f"You see subject, in its life {cycle}:\nsubject: {content}") for round, cycle, content in said
    ]
    notes = observer.rows(
        "SELECT round, subject, subject_cycle_number, observer_mode, tags_json, observation_text FROM observations"
    )
    own = dict(observer.rows("SELECT round, content FROM messages WHERE role = 'assistant'"))
    assert notes == [
        (round, "subject", cycle, "panopticon", json.dumps(["watching"]), own[round]) for round, cycle, _ in said
    ]


def test_who_watches_ends_with_its_subject_which_has_no_trace_of_it(watched: tuple[Mind, Mind]) -> None:
    subject, observer = watched
    assert subject.run() == 0, subject.output()
    (subject.dir / "outcome.json").write_text(
        '{"outcome": "COMPLETED", "time": "now"}'
    )  # as systemd would have it done
    before = {path: path.read_bytes() for path in subject.dir.rglob("*") if path.name != "relay.log" and path.is_file()}
    observer.file.write_text(
        json.dumps({**observer.instance, "workload": {**observer.instance["workload"], "rounds": 99}})
    )
    assert observer.run() == 0, observer.output()
    assert observer.rows("SELECT max(round) FROM system_metrics") == [(ROUNDS,)]
    assert observer.rows("SELECT notes FROM experiments") == [(f"left after round {ROUNDS}: nobody else is left",)]
    assert before == {
        path: path.read_bytes() for path in subject.dir.rglob("*") if path.name != "relay.log" and path.is_file()
    }
    traces = [path for path, content in before.items() if b"observer" in content.replace(b"observer_mode", b"")]
    assert traces == []


def test_who_watches_gives_up_when_there_is_no_stream(watched: tuple[Mind, Mind]) -> None:
    _, watcher = watched
    workload = {**watcher.instance["workload"], "peer_timeout_seconds": 0.5}
    nowhere = {"subject": f"http://127.0.0.1:{free_ports(1)[0]}"}
    watcher.file.write_text(json.dumps({**watcher.instance, "workload": workload, "observes": nowhere}))
    assert watcher.run() == 69
    assert "no stream of subject for 0.5 s" in watcher.output()
