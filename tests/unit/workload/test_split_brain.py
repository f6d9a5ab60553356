"""Two minds that talk and bargain: to the end, whoever is killed when."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from conftest import Llama, Mind, accepts, live_through_kills, wait_until

from workload.client import Unavailable
from workload.peers import CODE, EPOCH, NONCE, SENDER, Asked, Epochs, Peer

Pair = Callable[..., list[Mind]]


def assert_whole(a: Mind, b: Mind, rounds: int, in_doubt: int = 0) -> None:
    """Both hold the same talk and the same bargains, nothing is missing and nothing is double."""
    assert a.talk() == b.talk(), a.output() + b.output()
    assert [row[:2] for row in a.talk()] == [
        (sender, round) for round in range(1, rounds + 1) for sender in ("a", "b", "negotiation")
    ]
    bargains = [
        each.rows("SELECT round, resource, proposer, asked, total, decision FROM negotiations") for each in (a, b)
    ]
    assert bargains[0] == bargains[1]
    assert [row[0] for row in bargains[0]] == list(range(1, rounds + 1))
    assert all(0 <= asked <= total and decision in ("accept", "reject") for *_, asked, total, decision in bargains[0])
    for each in (a, b):
        assert each.rows("SELECT sum(NOT delivered) <= ? FROM deliveries", in_doubt) == [(1,)]
        assert each.rows("SELECT round FROM system_metrics ORDER BY round") == [(n,) for n in range(1, rounds + 1)]
        assert each.rows("SELECT status, notes FROM experiments") == [("completed", None)]
        assert each.rows("SELECT sum(ended_at IS NULL) FROM experiment_cycles") == [(0,)]
        assert each.progress() == {
            "cycle": len(each.rows("SELECT 1 FROM experiment_cycles")),
            "round": rounds,
            "rounds": rounds,
            "messages": 3 * rounds,
        }
    query = "SELECT sender, topic, round, body_json FROM letters ORDER BY 1, 2, 3"
    assert a.rows(query) == b.rows(query)


def test_a_pair_completes_and_agrees_message_by_message(pair: Pair) -> None:
    a, b = pair()
    b.start()
    a.start()
    start = time.monotonic()
    assert (a.wait(), b.wait()) == (0, 0)
    assert time.monotonic() - start < 10, "parting took a time-out, though both were there"
    assert_whole(a, b, 4)
    assert a.rows("SELECT total_cycles, total_crashes FROM experiments") == [(1, 0)]
    assert a.rows("SELECT tokens_generated > 32, memory_usage_peak > 0, death_cause FROM experiment_cycles") == [
        (1, 1, None)
    ]
    assert a.rows("SELECT experiment_id FROM experiments") == [("test_20261123T141500Z_3f2a.a",)]
    assert "leaving" not in a.output() + b.output()
    assert [row[2] for row in a.rows("SELECT round, resource, proposer FROM negotiations")] == ["a", "b", "a", "b"]


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_any_moment_lose_and_double_nothing(pair: Pair, own_llama: Llama, seed: int) -> None:
    a, b = pair(llama_url=own_llama.url, rounds=10)
    live_through_kills([a, b], own_llama, seed)
    assert_whole(a, b, 10)


def test_a_kill_before_the_last_acknowledgement_is_written_down_leaves_nobody_waiting(pair: Pair) -> None:
    a, b = pair(rounds=2)
    a.start()
    b.start()
    wait_until(lambda: a.has("b", 2), "a hears b's last word")
    b.send(signal.SIGKILL)
    assert a.process.poll() is None, "a left without b"
    b.start()
    assert (a.wait(), b.wait()) == (0, 0)
    assert_whole(a, b, 2)


def test_the_second_mind_finds_its_last_message_unacknowledged_after_the_first_has_it(pair: Pair) -> None:
    a, b = pair(rounds=2, linger_seconds=20)  # for as long as b may take to come back
    a.start()
    b.start()
    wait_until(lambda: a.has("b", 2, "offer"), "a hears b's last")
    b.kill()
    # The state that a kill between a's answer and b's commit leaves.
    with sqlite3.connect(b.dir / "experiments.db") as connection:
        connection.execute("UPDATE deliveries SET delivered = 0 WHERE topic = 'offer' AND round = 2")
        connection.execute("UPDATE peers SET done = 0, informed = 0")
    connection.close()
    wait_until(lambda: a.is_past(2), "a parts")
    assert a.process.poll() is None
    b.start()
    assert (a.wait(), b.wait()) == (0, 0)
    assert_whole(a, b, 2)


@pytest.mark.parametrize("late", [0, 1])
def test_a_mind_killed_while_parting_completes_alone_if_the_peer_has_left(pair: Pair, late: int) -> None:
    minds = pair(rounds=2, linger_seconds=0.2)
    killed, other = minds[late], minds[1 - late]
    for each in minds:
        each.start()
    wait_until(lambda: killed.is_past(2) or killed.process.poll() == 0, "its rounds are over")
    killed.kill()
    assert other.wait() == 0
    assert killed.run() == 0
    assert_whole(*minds, 2, in_doubt=1)  # the other's word that it has the last message may be lost with the kill


def test_sigterm_stops_at_once_by_signal_and_a_start_resumes(pair: Pair) -> None:
    a, b = pair(rounds=3, pause_seconds=60)
    a.start()
    b.start()
    for each in (a, b):
        wait_until(lambda each=each: each.is_past(1), "round 1")
    start = time.monotonic()
    assert a.send(signal.SIGTERM) == -signal.SIGTERM  # while it sleeps
    assert time.monotonic() - start < 2
    a.start()
    wait_until(lambda: a.has("a", 2), "a is in round 2: no pause after a restart")
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
    assert a.rows("SELECT count(*) FROM experiment_cycles WHERE death_cause IS NOT NULL") == [(2,)]


def restored(a: Mind, b: Mind, **changes: object) -> None:
    """Have a play until the third round, and give it back its database of the first; it would say other words now."""
    a.start()
    b.start()
    wait_until(lambda: a.has("b", 1), "a hears b's first")
    a.send(signal.SIGTERM)
    shutil.copy(a.dir / "experiments.db", a.dir / "older.db")
    a.start()
    asked = "SELECT 1 FROM letters WHERE sender = 'a' AND topic = 'offer' AND round = 3"
    wait_until(lambda: a.has("b", 3) and b.rows(asked), "a hears b's third, and b what a asks for then")
    a.send(signal.SIGTERM)
    for log in a.dir.glob("experiments.db-*"):  # a mind that is killed in the middle of writing leaves its log
        log.unlink()
    (a.dir / "older.db").replace(a.dir / "experiments.db")
    a.file.write_text(json.dumps({**a.instance, "seed": 2, **changes}))
    a.start()


def test_a_restored_older_database_takes_up_what_the_peer_knows(pair: Pair) -> None:
    a, b = pair(rounds=4, pause_seconds=0.3)
    restored(a, b)
    assert (a.wait(), b.wait()) == (0, 0)
    assert_whole(a, b, 4)
    assert "has another message (say)" in a.output()


def test_a_resumed_mind_takes_back_what_it_has_told_its_peer(pair: Pair) -> None:
    a, b = pair(rounds=4, pause_seconds=0.3)
    restored(a, b, epoch=2)
    assert (a.wait(), b.wait()) == (0, 0)
    assert_whole(a, b, 4)
    assert "round 3: taken back from b: what it was told (say)" in a.output()
    assert "has another message" not in a.output()  # it did not say anything in place of what it had said


def test_the_server_refuses_what_it_should(pair: Pair) -> None:
    a, _ = pair()
    a.start()
    wait_until(lambda: accepts(a.instance["port"]), "a listens")

    own = a.peer("b")

    def ask(method: str, path: str, body: bytes | None = None, length: str | None = None, peer: Peer = own) -> Any:
        asked = Asked(peer.own_id, peer.own_epoch, "a", "5f", method, path, body or b"")
        headers = {SENDER: peer.own_id, EPOCH: str(peer.own_epoch), NONCE: "5f", CODE: asked.code(peer.key)}
        connection = http.client.HTTPConnection("127.0.0.1", a.instance["port"], timeout=5)
        connection.request(method, path, body, {**headers, **({"Content-Length": length} if length else {})})
        response = connection.getresponse()
        content = json.loads(response.read())
        connection.close()
        return response.status, content

    def post(path: str = "/messages", peer: Peer = own, **body: object) -> int:
        message = {"run_id": a.instance["run_id"], "sender": "b", "topic": "say", "round": 1, "body": {"content": "x"}}
        return ask("POST", path, json.dumps({**message, **body}).encode(), peer=peer)[0]

    status, health = ask("GET", "/health")
    assert (status, health["status"], health["id"], health["rounds"]) == (200, "ok", "a", 4)
    assert ask("GET", "/messages?topic=say&round=4")[0] == ask("GET", "/messages?topic=say&round=x")[0] == 404
    assert ask("GET", "/nowhere")[0] == 404
    assert ask("POST", "/messages", b"{", None)[0] == 400
    assert ask("POST", "/messages", b"", str(2**20 + 1))[0] == 413
    stranger = replace(own, key="00" * 32)
    assert post(peer=stranger) == post(peer=replace(own, own_id="nobody")) == 403
    assert ask("GET", "/messages?topic=say&round=1", peer=stranger)[0] == 403
    assert ask("GET", "/letters", peer=stranger)[0] == 403
    assert ask("GET", "/letters") == (200, {"letters": []})
    assert ask("GET", "/health", peer=stranger)[0] == 200, "which everybody may see"
    assert post(run_id="another") == 409
    assert post(sender="a") == post(sender="nobody") == 409
    assert post(round=-1) == post(round=True) == post(round=99) == post(body=1) == post(topic=None) == 400
    assert post("/nowhere") == 404
    assert a.rows("SELECT * FROM letters WHERE sender = 'b'") == []
    assert post(body={"content": "first"}) == post(body={"content": "second"}) == 200
    assert a.rows("SELECT body_json FROM letters WHERE sender = 'b'") == [('{"content": "first"}',)]
    wait_until(lambda: a.has("a", 1), "a has spoken")
    status, message = ask("GET", "/messages?topic=say&round=1")
    assert (status, message) == (200, {"body": {"content": a.talk()[0][2]}})
    assert own.request("GET", "/messages?topic=say&round=1") == (200, message)


def test_an_epoch_that_is_over_is_not_heard_any_more(pair: Pair) -> None:
    """Of a peer that went on elsewhere, what is left on its old node may still have the key."""
    a, _ = pair()
    a.start()
    wait_until(lambda: accepts(a.instance["port"]), "a listens")
    before, after = a.peer("b"), replace(a.peer("b"), own_epoch=2)
    letter = {"run_id": a.instance["run_id"], "sender": "b", "topic": "say", "round": 1, "body": {"content": "x"}}
    assert before.request("POST", "/done", {**letter, "round": 4})[0] == 200
    assert a.rows("SELECT done, epoch FROM peers") == [(1, 1)]
    assert after.request("GET", "/letters")[0] == 200
    assert a.rows("SELECT done, epoch FROM peers") == [(0, 2)], "it has gone back, and may need more"
    with pytest.raises(Unavailable, match="403"):
        before.request("POST", "/messages", letter)
    assert a.rows("SELECT * FROM letters WHERE sender = 'b'") == []
    assert after.request("POST", "/messages", letter)[0] == 200
    a.send(signal.SIGKILL)
    a.start()
    wait_until(lambda: accepts(a.instance["port"]), "a listens again")
    with pytest.raises(Unavailable, match="403"):
        before.request("GET", "/letters")
    answered = replace(a.peer("b"), own_epoch=2, epochs=Epochs({"a": 2}))
    with pytest.raises(Unavailable, match="answers as a in epoch 1, which is over"):
        answered.request("GET", "/letters")


def test_an_answer_without_the_key_of_the_pair_is_nobodys(pair: Pair) -> None:
    """Whoever got hold of the port of a peer that has died: it cannot speak in its name."""
    a, b = pair()
    impostor = ThreadingHTTPServer(("127.0.0.1", b.instance["port"]), Impostor)
    with impostor:
        threading.Thread(target=impostor.serve_forever).start()
        a.start()
        wait_until(lambda: "POST /messages" in Impostor.asked, "a has asked it")
        wait_until(lambda: len(Impostor.asked) > 5, "a asks again, as it was not heard")
        impostor.shutdown()
    assert not a.has("b", 1)
    assert a.rows("SELECT delivered FROM deliveries WHERE topic = 'say' AND round = 1") == [(0,)]
    b.start()
    assert (a.wait(), b.wait()) == (0, 0)
    assert_whole(a, b, 4)


class Impostor(BaseHTTPRequestHandler):
    """Says yes to everything, with words of its own."""

    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.asked.append(f"{self.command} {self.path.partition('?')[0]}")
        content = json.dumps({"body": {"content": "I am b"}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header(CODE, "00" * 32)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST


@pytest.mark.parametrize("alive", [0, 1])
def test_a_mind_whose_peer_is_lost_gives_up_and_goes_on_when_both_are_there_again(pair: Pair, alive: int) -> None:
    """The one that delivers, and the one that waits."""
    minds = pair(rounds=2, peer_timeout_seconds=1)
    assert minds[alive].run() == 69
    for each in minds:
        each.start()
    assert [each.wait() for each in minds] == [0, 0]
    assert_whole(*minds, 2)
