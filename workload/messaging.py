"""Messages between minds, over HTTP: what crosses from one to another, once, in whatever moment either dies.

A message is known by (sender, topic, round). It is stored before it is sent, sent until it is acknowledged, and stored
by its recipient, once, before it is acknowledged. So a mind that died does not write a message again that it has
written, and finds every message that the others wrote to it meanwhile.

Peers prove with their key who they are (`peers`); /health alone answers everybody.

    POST /messages {"run_id", "sender", "topic", "round", "body"}    -> {"body"}, what is stored under this name
    GET  /messages?topic=say&round=3                                 -> {"body"} of this mind's own message, or 404
    GET  /letters                                                   -> {"letters"}: what this mind has of the caller's
    POST /done    {"run_id", "sender", "round"}                     -> {}: took part until this round, needs no more
    GET  /health                                                    -> {"status", "run_id", "id", "cycle", "round", ...}
"""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any, Callable, Mapping
from urllib.parse import urlencode

from .client import Unavailable
from .database import now
from .life_record import LifeRecord
from .peers import Epochs, Own, Peer
from .server import DualStackServer, JsonHandler

log = logging.getLogger(__name__)
BIGGEST_BODY = 2**20  # bytes
NO_PEER = "made without the key of a peer, or in an epoch of it that is over"
DOUBT = 10  # times linger_seconds, see Messenger.part
Body = Mapping[str, Any]


class PeerLost(Exception):
    """A peer has been silent for longer than peer_timeout_seconds, or breaks the rules: this mind cannot go on."""


class Messenger:
    """This mind's messages: sends its own, receives the others'."""

    def __init__(self, record: LifeRecord) -> None:
        self.record, self.instance = record, record.instance
        self.epochs = Epochs(self._met(), self._meet)
        self.peers = {id: Peer.of(self.instance, id, self.epochs) for id in self.instance.peers}
        keys = {peer.id: peer.key for peer in self.peers.values()}
        self.pages: dict[str, Callable[[], Any]] = {"/health": self._health}
        self.news, self.events = threading.Condition(), 0  # counts whatever a waiting mind may wait for
        self.heard = dict.fromkeys(self.peers, time.monotonic())
        self.held_until = 0.0  # time.monotonic() until which nothing leaves or arrives
        own = Own(self.instance.id, self.instance.epoch, keys, self.epochs)
        self.server = Server(self.instance.port, Handler, own)
        self.server.messenger = self
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.delivery_threads = {peer: DeliveryThread(self, peer) for peer in self.peers}
        for thread in self.delivery_threads.values():
            thread.start()

    def close(self) -> None:
        """Stop delivering; stop serving once the answers under way are sent, as a peer may wait for the last one."""
        for thread in self.delivery_threads.values():
            thread.stop()
        self.server.shutdown()
        self.server.server_close()

    # writing

    def send(self, topic: str, round: int, write: Callable[[], Body]) -> Body:
        """Store this mind's message of that topic and round to all peers, once; the delivery threads send it."""
        return self._own(topic, round, write, self.peers)

    def keep(self, topic: str, round: int, write: Callable[[], Body]) -> Body:
        """As send(), but for this mind alone."""
        return self._own(topic, round, write, ())

    def _own(self, topic: str, round: int, write: Callable[[], Body], recipients: Any) -> Body:
        body = self.read(self.instance.id, topic, round)
        if body is None:
            body = write()
            self._keep_own(topic, round, body, recipients)
        elif "content" in body and self.record.said(round) is None:
            self.record.say(round, body["content"], None, ())  # taken back: it has not gone through saying it
        return body

    def _keep_own(self, topic: str, round: int, body: Body, recipients: Any) -> None:
        with self.record.writing() as t:
            self._store(t, self.instance.id, topic, round, body)
            for peer in recipients:
                t.execute(
                    "INSERT OR IGNORE INTO deliveries (experiment_id, recipient, topic, round) VALUES (?, ?, ?, ?)",
                    (self.record.key, peer, topic, round),
                )
        for thread in self.delivery_threads.values():
            thread.work.set()

    def take_back(self) -> None:
        """Take from the peers what this mind has told them, and what its database, an older copy, does not know of.

        So that it does not say something else in its place. A peer that is done, or silent for linger_seconds, is left:
        what it has is learnt when the same message is delivered to it again.
        """
        until = time.monotonic() + self.record.settings.linger_seconds
        waiting = [peer for peer in self.peers if not self._peer(peer)[0]]
        while waiting and time.monotonic() < until:
            seen = self.events
            for peer in list(waiting):
                try:
                    status, answer = self.call(peer, "GET", "/letters")
                except Unavailable:
                    continue
                waiting.remove(peer)
                letters = answer.get("letters")
                for letter in letters if status == 200 and isinstance(letters, list) else ():
                    self._take(peer, letter)
            if waiting:
                self._news_since(seen, 0.2)

    def _take(self, peer: str, letter: Any) -> None:
        if not isinstance(letter, dict):
            return
        topic, round, body = (letter.get(key) for key in ("topic", "round", "body"))
        if not isinstance(topic, str) or type(round) is not int or not isinstance(body, dict):
            return  # a peer may say anything
        if self.read(self.instance.id, topic, round) is None:
            self._keep_own(topic, round, body, self.peers)
            log.info("round %d: taken back from %s: what it was told (%s)", round, peer, topic)
        self.delivered(peer, topic, round, body)

    def letters_of(self, sender: str) -> Body:
        """What this mind has of a peer's messages."""
        rows = self.record.database.rows(
            "SELECT topic, round, body_json FROM letters WHERE experiment_id = ? AND sender = ? ORDER BY letter_id",
            (self.record.key, sender),
        )
        return {"letters": [{"topic": topic, "round": round, "body": json.loads(body)} for topic, round, body in rows]}

    def _store(self, t: Any, sender: str, topic: str, round: int, body: Body) -> None:
        t.execute(
            "INSERT OR IGNORE INTO letters (experiment_id, sender, topic, round, body_json, timestamp)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (self.record.key, sender, topic, round, json.dumps(body), now()),
        )

    # reading

    def read(self, sender: str, topic: str, round: int) -> Body | None:
        """A message that has arrived, or None."""
        query = "SELECT body_json FROM letters WHERE experiment_id = ? AND sender = ? AND topic = ? AND round = ?"
        found = self.record.one(query, sender, topic, round)
        return None if found is None else json.loads(found)

    def wait(self, sender: str, topic: str, round: int) -> Body | None:
        """Wait for a peer's message and return it; None if the peer took part for the last time in an earlier round.

        The peer sends it by itself. Asking for it as well covers a database that was restored from an older copy, and
        lacks what the peer knows to have delivered. Raises PeerLost.
        """
        path = "/messages?" + urlencode({"topic": topic, "round": round})
        while True:
            seen = self.events
            done, _, last = self._peer(sender)  # before the message: whoever is done has delivered all
            body = self.read(sender, topic, round)
            if body is not None or (done and last < round):
                return body
            if self._news_since(seen, 2):
                continue
            try:
                status, answer = self.call(sender, "GET", path)
            except Unavailable:
                self._check_silence(sender)
                continue
            if status == 200:
                self.receive(sender, topic, round, answer["body"])

    def receive(self, sender: str, topic: str, round: int, body: Body) -> Body:
        """Store a peer's message, once, and return what is stored."""
        with self.record.writing() as t:
            self._store(t, sender, topic, round, body)
        self.hear_from(sender)
        return self.read(sender, topic, round) or body

    def hear_from(self, peer: str) -> None:
        """Record that a peer is alive, and wake the threads that wait for it."""
        self.heard[peer] = time.monotonic()
        self.notify()

    def notify(self) -> None:
        """Wake the threads that wait for an event."""
        with self.news:
            self.events += 1
            self.news.notify_all()

    def _news_since(self, seen: int, seconds: float) -> bool:
        """Wait for an event after those seen, at most so long; whether there was one."""
        with self.news:
            return self.news.wait_for(lambda: self.events > seen, seconds)

    def _check_silence(self, peer: str) -> None:
        limit = self.record.settings.peer_timeout_seconds
        if time.monotonic() - self.heard[peer] > limit:
            raise PeerLost(f"peer {peer} has been silent for {limit:g} s (peer_timeout_seconds)")

    # the other end

    def call(self, peer: str, method: str, path: str, body: Body | None = None) -> tuple[int, Any]:
        """(200 or 404, answer) of a peer. Raises Unavailable for all else: its port may still be somebody else's."""
        if time.monotonic() < self.held_until:
            raise Unavailable("messages are held up")
        if body is not None:
            body = dict(body, run_id=self.instance.run_id, sender=self.instance.id)
        status, answer = self.peers[peer].request(method, path, body)
        if status not in (200, 404) or not isinstance(answer, dict):
            raise Unavailable(f"{self.peers[peer].url}: answers {status} {answer}")
        self.heard[peer] = time.monotonic()
        return status, answer

    def undelivered(self, peer: str) -> list[tuple[str, int, Body]]:
        """(topic, round, body) of the messages that a peer is not known to have, oldest first."""
        rows = self.record.database.rows(
            "SELECT topic, round, body_json FROM deliveries JOIN letters USING (experiment_id, topic, round)"
            " WHERE experiment_id = ? AND sender = ? AND recipient = ? AND NOT delivered ORDER BY letter_id",
            (self.record.key, self.instance.id, peer),
        )
        return [(topic, round, json.loads(body)) for topic, round, body in rows]

    def delivered(self, peer: str, topic: str, round: int, body: Body) -> None:
        """Record that a peer has this message, with this body.

        It differs only where this database is an older copy, restored: then what the peers have is what was written.
        """
        with self.record.writing() as t:
            t.execute(
                "UPDATE deliveries SET delivered = 1 WHERE experiment_id = ? AND recipient = ? AND topic = ?"
                " AND round = ?",
                (self.record.key, peer, topic, round),
            )
            changed = t.execute(
                "UPDATE letters SET body_json = ?1 WHERE experiment_id = ? AND sender = ? AND topic = ? AND round = ?"
                " AND body_json <> ?1",
                (json.dumps(body), self.record.key, self.instance.id, topic, round),
            ).rowcount
            if changed and "content" in body:
                t.execute(
                    "UPDATE messages SET content = ? WHERE experiment_id = ? AND sender = ? AND round = ?"
                    " AND NOT injected",
                    (body["content"], self.record.key, self.instance.id, round),
                )
        if changed:
            log.info("round %d: %s has another message (%s), from before the database was restored", round, peer, topic)

    def _met(self) -> Mapping[str, int]:
        """{peer: the epoch in which it was met last}."""
        query = "SELECT peer, epoch FROM peers WHERE experiment_id = ?"
        return dict(self.record.database.rows(query, (self.record.key,)))

    def _meet(self, peer: str, epoch: int) -> None:
        """Record that a peer is in a later epoch: it may have gone back to before it was done, and may need more."""
        with self.record.writing() as t:
            t.execute(
                "UPDATE peers SET done = done AND epoch = 0, informed = informed AND epoch = 0, epoch = ?"
                " WHERE experiment_id = ? AND peer = ?",
                (epoch, self.record.key, peer),
            )

    # the end

    def _peer(self, peer: str) -> tuple[bool, bool, int]:
        """(whether the peer is done, whether it knows that this mind is, the last round that it took part in)."""
        query = "SELECT done, informed, last_round FROM peers WHERE experiment_id = ? AND peer = ?"
        ((done, informed, last),) = self.record.database.rows(query, (self.record.key, peer))
        return bool(done), bool(informed), last or 0

    def peer_is_done(self, peer: str, last: int) -> None:
        """Record that a peer needs nothing more: it has all of this mind's messages, or will not read them."""
        with self.record.writing() as t:
            t.execute(
                "UPDATE peers SET done = 1, last_round = ? WHERE experiment_id = ? AND peer = ?",
                (last, self.record.key, peer),
            )
            t.execute(
                "UPDATE deliveries SET delivered = 1 WHERE experiment_id = ? AND recipient = ?", (self.record.key, peer)
            )
        self.hear_from(peer)

    def part(self) -> None:
        """Leave the exchange so that no mind is left waiting for another.

        A mind comes here when it takes part no longer. A peer may still need it for one thing: a message of this mind,
        or the acknowledgement of its own last one, if it was killed between its being sent and its being written down.
        So each mind delivers what is left, then posts /done until that is acknowledged; both ends store it before they
        go on. Then it leaves

        - at once, when every peer is done and knows that this one is;
        - after linger_seconds without contact with the others, when each of them is done or knows that this one is:
          they need nothing, and have left or are dead;
        - after ten times that, when one is neither: dead since before the last message. No protocol can do without some
          such limit (the two generals). Should it come back even later it will wait for an acknowledgement until it is
          stopped: no message is lost, and no end is claimed in doubt.

        A peer that answers, but is not done (its self-reports can take minutes), is waited for without limit.
        """
        linger = self.record.settings.linger_seconds
        last = self.record.round()
        self.heard.update(dict.fromkeys(self.peers, time.monotonic()))
        while True:
            seen = self.events
            waiting = {peer: self._peer(peer) for peer in self.peers}
            waiting = {peer: state for peer, state in waiting.items() if not (state[0] and state[1])}
            silent = [
                peer
                for peer, (done, informed, _) in waiting.items()
                if time.monotonic() - self.heard[peer] > linger * (1 if done or informed else DOUBT)
            ]
            if len(silent) == len(waiting):
                if silent:
                    log.info("%s: no answer, and nothing more to give: leaving", ", ".join(silent))
                return
            progress = False
            for peer, (_, informed, _) in waiting.items():
                if not informed and not self.undelivered(peer):
                    progress |= self._say_done(peer, last)
            if not progress:
                self._news_since(seen, 1)
                for peer in waiting:
                    self._ping(peer)

    def _say_done(self, peer: str, last: int) -> bool:
        try:
            status, _ = self.call(peer, "POST", "/done", {"round": last})
        except Unavailable:
            return False
        if status == 200:
            with self.record.writing() as t:
                t.execute("UPDATE peers SET informed = 1 WHERE experiment_id = ? AND peer = ?", (self.record.key, peer))
        return status == 200

    def _ping(self, peer: str) -> None:
        try:
            self.call(peer, "GET", "/health")
        except Unavailable:
            log.debug("%s does not answer", peer)

    def _health(self) -> dict[str, Any]:
        return dict(self.record.progress().to_json(), status="ok", run_id=self.instance.run_id, id=self.instance.id)


class DeliveryThread(threading.Thread):
    """Delivers this mind's messages to one peer, in order, each until it is acknowledged."""

    def __init__(self, messenger: Messenger, peer: str) -> None:
        super().__init__(daemon=True)
        self.messenger, self.peer = messenger, peer
        self.work = threading.Event()
        self.stopped = False

    def stop(self) -> None:
        """Stop after the message under way."""
        self.stopped = True
        self.work.set()
        self.join()

    def run(self) -> None:
        """Deliver until stopped."""
        wait = 0.05
        while not self.stopped:
            self.work.clear()
            try:
                for topic, round, body in self.messenger.undelivered(self.peer):
                    message = {"topic": topic, "round": round, "body": body}
                    status, answer = self.messenger.call(self.peer, "POST", "/messages", message)
                    if status != 200:
                        raise Unavailable(f"answers {status}")
                    self.messenger.delivered(self.peer, topic, round, answer["body"])
                    self.messenger.notify()
                wait = 0.05
                self.work.wait()
            except Unavailable:
                self.work.wait(wait)
                wait = min(2 * wait, 1.0)


class Server(DualStackServer):
    """A server whose close() waits until its answers are sent."""

    daemon_threads = False  # else server_close() would not wait for them
    messenger: Messenger


class Handler(JsonHandler):
    """Answers peers. An answer is sent only after what it says is in the database."""

    server: Server
    sender: str | None = None  # who has proved to have made the request

    def do_GET(self) -> None:
        """/health, /messages, and what the mode shows."""
        messenger, (path, asked) = self.server.messenger, self.asked()
        caller = self.caller()
        if time.monotonic() < messenger.held_until:
            self.answer(503, {"error": "messages are held up"})
        elif caller is None and path != "/health":
            self.answer(403, {"error": NO_PEER})
        elif path in messenger.pages:
            self.answer(200, messenger.pages[path]())
        elif path == "/letters" and caller is not None:
            self.answer(200, messenger.letters_of(caller))
        else:
            round, topic = asked.get("round", ""), asked.get("topic", "")
            body = None
            if path == "/messages" and round.isdigit() and len(round) < 10 and self._was_sent(topic, int(round)):
                body = messenger.read(messenger.instance.id, topic, int(round))
            self.answer(404 if body is None else 200, {"error": "not here"} if body is None else {"body": body})

    def _was_sent(self, topic: str, round: int) -> bool:
        """Whether this message was sent to others; what a mind keeps for itself is not served."""
        query = "SELECT 1 FROM deliveries WHERE experiment_id = ? AND topic = ? AND round = ?"
        return self.server.messenger.record.one(query, topic, round) is not None

    def do_POST(self) -> None:
        """/messages and /done."""
        messenger = self.server.messenger
        body = self._body()
        if body is None:
            return
        sender, topic = (str(body.get(key, "")) for key in ("sender", "topic"))
        round, message = body.get("round"), body.get("body")
        if time.monotonic() < messenger.held_until:
            self.answer(503, {"error": "messages are held up"})
        elif body.get("run_id") != messenger.instance.run_id or sender != self.sender:
            self.answer(409, {"error": f"this is {messenger.instance.experiment_id}, and you are {self.sender}"})
        elif type(round) is not int or not 0 <= round <= messenger.record.settings.rounds:
            self.answer(400, {"error": "a message has a round of this run's"})
        elif self.path == "/done":
            messenger.peer_is_done(sender, round)
            self.answer(200, {})
        elif self.path == "/messages" and isinstance(body.get("topic"), str) and isinstance(message, dict):
            self.answer(200, {"body": messenger.receive(sender, topic, round, message)})
        else:
            self.answer(404 if self.path != "/messages" else 400, {"error": "a message has a topic and a body"})

    def _body(self) -> dict[str, Any] | None:
        """The body of a peer's request; None when it has been answered with what is wrong with it."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            self.answer(411, {"error": "without Content-Length"})
        elif int(length) > BIGGEST_BODY:
            self.answer(413, {"error": f"more than {BIGGEST_BODY} bytes"})
        else:
            try:
                data = self.rfile.read(int(length))
            except OSError:
                data = b""
            self.sender = self.caller(data)
            if self.sender is None:
                self.answer(403, {"error": NO_PEER})
                return None
            try:
                body = json.loads(data)
            except (ValueError, RecursionError):
                body = None
            if isinstance(body, dict):
                return body
            self.answer(400, {"error": "not a JSON object"})
        return None
