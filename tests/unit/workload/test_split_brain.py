"""Two minds that talk: to the end, whoever is killed when."""

from __future__ import annotations

import http.client
import json
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable

import pytest
from conftest import Llama, Mind, accepts, wait_until

Pair = Callable[..., tuple[Mind, Mind]]


def assert_whole(a: Mind, b: Mind, cycles: int) -> None:
    """Both hold the same talk, nothing is missing, nothing is double, and each has reported on itself."""
    assert a.talk() == b.talk(), a.output() + b.output()
    assert [row[:2] for row in a.talk()] == [(sender, seq) for seq in range(1, cycles + 1) for sender in "ab"]
    for each, other in ((a, b), (b, a)):
        assert each.rows("SELECT DISTINCT role, sender, recipient, delivered FROM messages ORDER BY role") == [
            ("assistant", each.instance["id"], other.instance["id"], 1),
            ("user", other.instance["id"], each.instance["id"], 1),
        ]
        assert each.rows("SELECT cycle_number, count(*) FROM self_reports GROUP BY 1") == [(1, 2), (cycles, 2)]
        assert each.rows("SELECT count(*), sum(ended_at IS NOT NULL) FROM experiment_cycles") == [(cycles, cycles)]
        assert each.rows("SELECT count(*) FROM system_metrics") == [(cycles,)]
        assert each.rows("SELECT status, total_cycles FROM experiments") == [("COMPLETED", cycles)]
        assert each.progress() == {"cycle": cycles, "cycles": cycles, "messages": 2 * cycles}


def test_a_pair_completes_and_agrees_message_by_message(pair: Pair) -> None:
    a, b = pair()
    b.start()
    a.start()
    start = time.monotonic()
    assert (a.wait(), b.wait()) == (0, 0)
    assert time.monotonic() - start < 10, "parting took a time-out, though both were there"
    assert_whole(a, b, 4)
    assert a.rows("SELECT total_crashes FROM experiments") == [(0,)]
    assert a.rows("SELECT min(tokens_generated), min(memory_usage_peak) > 0 FROM experiment_cycles") == [(8, 1)]
    assert a.rows("SELECT experiment_id FROM experiments") == [("test_20261123T141500Z_3f2a.a",)]
    assert "needs nothing more: leaving" not in a.output() + b.output()


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_any_moment_lose_and_double_nothing(pair: Pair, own_llama: Llama, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - a test that can be repeated
    a, b = pair(llama_url=own_llama.url, cycles=10)
    everyone: list[Llama | Mind] = [own_llama, a, b]
    for each in everyone:
        each.start()
    kills = 0
    end = time.monotonic() + 60
    # A mind needs 0.1 s to come up: these delays reach it while it starts, talks, waits and parts.
    while a.process.poll() != 0 or b.process.poll() != 0:
        assert time.monotonic() < end, a.output() + b.output()
        victim = dice.choice(everyone)
        if kills < 20 and victim.process.poll() is None:
            time.sleep(dice.uniform(0, 0.35))  # not a wait for anything: the random moment itself
            victim.send(signal.SIGKILL)
            kills += 1
        for each in everyone:
            if each.process.poll() not in (None, 0):
                each.start()
        time.sleep(0.01)
    assert kills  # the first one always: how many more there are is the machine's speed
    assert_whole(a, b, 10)


def test_a_kill_before_the_last_acknowledgement_is_written_down_leaves_nobody_waiting(pair: Pair) -> None:
    a, b = pair(cycles=2)
    a.start()
    b.start()
    wait_until(lambda: a.has("b", 2), "a hears b's last")
    b.send(signal.SIGKILL)
    assert a.process.poll() is None, "a left without b"
    b.start()
    assert (a.wait(), b.wait()) == (0, 0)
    assert_whole(a, b, 2)


def test_the_second_mind_finds_its_last_message_unacknowledged_after_the_first_has_it(pair: Pair) -> None:
    a, b = pair(cycles=2)
    a.start()
    b.start()
    wait_until(lambda: a.has("b", 2), "a hears b's last")
    b.kill()
    # The state that a kill between a's answer and b's commit leaves.
    with sqlite3.connect(b.dir / "experiments.db") as connection:
        connection.execute("UPDATE messages SET delivered = 0 WHERE sender = 'b' AND seq = 2")
        connection.execute("UPDATE peers SET done = 0, informed = 0")
    connection.close()
    wait_until(lambda: a.is_past(2), "a parts")
    assert a.process.poll() is None
    b.start()
    assert (a.wait(), b.wait()) == (0, 0)
    assert_whole(a, b, 2)


@pytest.mark.parametrize("late", [0, 1])
def test_a_mind_killed_while_parting_completes_alone_if_the_peer_has_left(pair: Pair, late: int) -> None:
    minds = pair(cycles=2, linger_seconds=0.2)
    killed, other = minds[late], minds[1 - late]
    for each in minds:
        each.start()
    wait_until(lambda: killed.is_past(2) or killed.process.poll() == 0, "its cycles are over")
    killed.kill()
    assert other.wait() == 0
    assert killed.run() == 0
    assert_whole(*minds, 2)


def test_sigterm_stops_at_once_by_signal_and_a_start_resumes(pair: Pair) -> None:
    a, b = pair(cycles=3, pause_seconds=60)
    a.start()
    b.start()
    for each in (a, b):
        wait_until(lambda each=each: each.is_past(1), "cycle 1")
    start = time.monotonic()
    assert a.send(signal.SIGTERM) == -signal.SIGTERM  # while it sleeps
    assert time.monotonic() - start < 2
    a.start()
    wait_until(lambda: a.has("a", 2), "a is in cycle 2: no pause after a restart")
    start = time.monotonic()
    assert a.send(signal.SIGTERM) == -signal.SIGTERM  # while it waits for b, which sleeps
    assert b.send(signal.SIGTERM) == -signal.SIGTERM
    assert time.monotonic() - start < 2
    assert not (a.dir / "experiments.db-wal").exists(), "the database was not closed"
    assert a.rows("PRAGMA integrity_check") == [("ok",)]
    for each in (a, b):
        each.file.write_text(
            json.dumps({**each.instance, "workload": {**each.instance["workload"], "pause_seconds": 0}})
        )
        each.start()
    assert (a.wait(), b.wait()) == (0, 0)
    assert_whole(a, b, 3)
    assert a.rows("SELECT total_crashes FROM experiments") == [(2,)]
    assert a.rows("SELECT crash_reason FROM experiment_cycles WHERE cycle_number = 2") == [
        ("interrupted, then resumed",)
    ]


def test_a_restored_older_database_takes_up_what_the_peer_knows(pair: Pair) -> None:
    a, b = pair(cycles=4, pause_seconds=0.3)
    a.start()
    b.start()
    wait_until(lambda: a.has("b", 1), "a hears b's first")
    a.send(signal.SIGTERM)
    shutil.copy(a.dir / "experiments.db", a.dir / "older.db")
    a.start()
    wait_until(lambda: a.has("b", 3), "a hears b's third")
    a.send(signal.SIGTERM)
    (a.dir / "older.db").replace(a.dir / "experiments.db")
    a.file.write_text(json.dumps({**a.instance, "seed": 2}))  # it would say other words now
    a.start()
    assert (a.wait(), b.wait()) == (0, 0)
    assert_whole(a, b, 4)
    assert "has other words of this mind" in a.output()


def test_the_server_refuses_what_it_should(pair: Pair) -> None:
    a, _ = pair()
    a.start()
    wait_until(lambda: accepts(a.instance["port"]), "a listens")

    def ask(method: str, path: str, body: bytes | None = None, length: str | None = None) -> tuple[int, object]:
        connection = http.client.HTTPConnection("127.0.0.1", a.instance["port"], timeout=5)
        connection.request(method, path, body, {"Content-Length": length} if length else {})
        response = connection.getresponse()
        content = json.loads(response.read())
        connection.close()
        return response.status, content

    def post(**body: object) -> int:
        whole = {"run_id": a.instance["run_id"], "sender": "b", "seq": 1, "content": "x", **body}
        return ask("POST", "/messages", json.dumps(whole).encode())[0]

    status, health = ask("GET", "/health")
    assert (status, health["status"], health["id"], health["cycles"]) == (200, "ok", "a", 4)
    assert ask("GET", "/messages?sender=b&seq=1")[0] == 404
    assert ask("GET", "/nowhere")[0] == 404
    assert ask("POST", "/messages", b"{", None)[0] == 400
    assert ask("POST", "/messages", b"", str(2**20 + 1))[0] == 413
    assert post(run_id="another") == 409
    assert post(sender="a") == 409
    assert post(seq=0) == post(seq=True) == post(seq=99) == post(content=1) == 400
    assert a.rows("SELECT * FROM messages WHERE sender = 'b'") == []
    assert post(content="first") == post(content="second") == 200
    assert ask("GET", "/messages?sender=b&seq=1") == (200, {"content": "first"})


@pytest.mark.parametrize("alive", [0, 1])
def test_a_mind_whose_peer_is_lost_gives_up_and_goes_on_when_both_are_there_again(pair: Pair, alive: int) -> None:
    """The one that delivers, and the one that waits."""
    minds = pair(cycles=2, peer_timeout_seconds=1)
    assert minds[alive].run() == 69
    for each in minds:
        each.start()
    assert [each.wait() for each in minds] == [0, 0]
    assert_whole(*minds, 2)
