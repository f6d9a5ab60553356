"""Two minds that talk over HTTP: what a mind serves, and how it delivers, waits and parts.

Nothing is lost and nothing doubled, wherever either is killed: a message is stored before it is sent, sent until it is
acknowledged, and stored by its recipient, once, before it is acknowledged.

    POST /messages {"run_id", "sender", "seq", "content"}   -> {"content"}, what is stored under this sender and seq
    GET  /messages?sender=a&seq=3                           -> {"content"} or 404
    POST /done     {"run_id", "sender"}                     -> {}
    GET  /health                                            -> {"status", "run_id", "id", "cycle", "cycles", "messages"}
"""

from __future__ import annotations

import json
import logging
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from .client import Unavailable, persist, request
from .record import Message, Record

log = logging.getLogger(__name__)
BIGGEST_BODY = 2**20  # bytes
DOUBT = 10  # times linger_seconds, see Peer.part


class PeerLost(Exception):
    """The peer has been silent for longer than peer_timeout_seconds, and this mind cannot go on without it."""


class Peer:
    """The other mind, as this one sees it, and the server at which the other one calls."""

    def __init__(self, record: Record) -> None:
        self.record, self.instance = record, record.instance
        (self.id,) = (other for other in self.instance.instances if other != self.instance.id)
        self.url = self.instance.peers[self.id]
        self.news = threading.Event()  # set when the peer has called
        self.last_contact = time.monotonic()
        self.server = Server(("0.0.0.0", self.instance.port), Handler)  # noqa: S104 - the unit's firewall says who may call
        self.server.peer = self
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop serving, once the answers under way are sent: the last one may be what the peer waits for."""
        self.server.shutdown()
        self.server.server_close()

    def heard_from(self) -> None:
        """Note that the peer lives, and wake whoever waits for it."""
        self.last_contact = time.monotonic()
        self.news.set()

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        if body is not None:
            body = dict(body, run_id=self.instance.run_id, sender=self.instance.id)
        status, answer = request(self.url, method, path, body)
        if status not in (200, 404) or not isinstance(answer, dict):  # its port may still be somebody else's
            raise Unavailable(f"{self.url}: answers {status} {answer}")
        self.last_contact = time.monotonic()
        return status, answer

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        status, answer = self._call("POST", path, body)
        if status != 200:
            raise Unavailable(f"{self.url}: answers {status} {answer}")
        return answer

    def _check_silence(self) -> None:
        limit = self.record.settings.peer_timeout_seconds
        if time.monotonic() - self.last_contact > limit:
            raise PeerLost(f"peer {self.id} has been silent for {limit:g} s (peer_timeout_seconds)")

    def _send(self, body: dict[str, Any]) -> Any:
        try:
            return self._post("/messages", body)
        except Unavailable:
            self._check_silence()
            raise

    def deliver(self) -> None:
        """Deliver all that is undelivered, in order. Raises PeerLost."""
        for message in self.record.undelivered():
            body = {"seq": message.seq, "content": message.content}
            answer = persist("peer " + self.id, partial(self._send, body))
            stored = answer.get("content", message.content)
            if stored != message.content:
                log.info(
                    "cycle %d: %s has other words of this mind, from before its database was restored: kept",
                    message.seq,
                    self.id,
                )
            self.record.delivered(message, stored)

    def wait_for(self, seq: int) -> None:
        """Return once the peer's message `seq` is here. Raises PeerLost.

        The peer sends it by itself. Asking for it as well covers a database that was restored from an older copy, and
        lacks what the peer knows to have delivered.
        """
        while self.record.content(self.id, seq) is None:
            self.news.wait(2)
            self.news.clear()
            if self.record.content(self.id, seq) is None:
                try:
                    status, answer = self._call("GET", "/messages?" + urlencode({"sender": self.id, "seq": seq}))
                except Unavailable:
                    self._check_silence()
                    continue
                if status == 200:
                    self.record.hear(Message(self.id, seq, str(answer["content"])))

    def part(self) -> None:
        """End the talk so that neither mind is left waiting for the other.

        A mind comes here when it needs nothing any more: its cycles are over and its messages acknowledged. The peer
        may still need it, for one thing: the acknowledgement of the very last message, if the peer was killed between
        its being sent and its being written down. So each mind posts /done until that is acknowledged. /done also says
        "I have all your messages"; both ends store it before they go on. Then a mind leaves

        - at once, when the peer is done and knows that this one is;
        - after linger_seconds without contact, when one of these two holds, or when it speaks second (it could not be
          done, had the first mind not all the messages): the peer provably needs nothing, and has left or is dead;
        - after ten times that, when neither holds: the first mind, its peer dead since the last message. No protocol
          can do without some such limit (the two generals). Should the peer come back even later, without its
          acknowledgement, it will wait for it until it is stopped: no message is lost, and no end is claimed in doubt.

        A peer that answers, but is not done (its self-reports can take minutes), is waited for without limit.
        """
        linger = self.record.settings.linger_seconds
        self.last_contact = time.monotonic()
        while True:
            done, informed = self.record.ending(self.id)
            if done and informed:
                return
            try:
                self._post("/done", {})
            except Unavailable:
                limit = linger if done or informed or not self.record.first else DOUBT * linger
                if time.monotonic() - self.last_contact > limit:
                    log.info("peer %s has not answered for %g s, and needs nothing more: leaving", self.id, limit)
                    return
            else:
                if not informed:
                    self.record.peer_is_informed(self.id)
                    continue
            self.news.wait(1)
            self.news.clear()


class Server(ThreadingHTTPServer):
    """A server whose close waits for its answers."""

    daemon_threads = False  # else server_close() would not wait for them
    peer: Peer


class Handler(BaseHTTPRequestHandler):
    """Answers the peer. Each answer leaves after what it says is in the database."""

    server: Server
    timeout = 10  # seconds of silence after which a caller is dropped

    def do_GET(self) -> None:
        """/health and /messages."""
        record = self.server.peer.record
        url = urlsplit(self.path)
        if url.path == "/health":
            who = {"run_id": record.instance.run_id, "id": record.instance.id}
            self._answer(200, dict(record.progress(), status="ok", **who))
            return
        asked = {key: values[0] for key, values in parse_qs(url.query).items()}
        seq = asked.get("seq", "")
        content = record.content(asked.get("sender", ""), int(seq)) if seq.isdigit() and len(seq) < 10 else None
        if url.path != "/messages" or content is None:
            self._answer(404, {"error": "not here"})
        else:
            self._answer(200, {"content": content})

    def do_POST(self) -> None:
        """/messages and /done."""
        peer = self.server.peer
        body = self._body()
        if body is None:
            return
        if (body.get("run_id"), body.get("sender")) != (peer.instance.run_id, peer.id):
            self._answer(409, {"error": f"this is {peer.instance.experiment_id}, which talks to {peer.id}"})
        elif self.path == "/done":
            if not peer.record.ending(peer.id)[0]:  # it says so every second while it waits for this mind
                peer.record.peer_is_done(peer.id)
            self._answer(200, {})
            peer.heard_from()
        elif self.path == "/messages":
            seq, content = body.get("seq"), body.get("content")
            if type(seq) is not int or not 1 <= seq <= peer.record.settings.cycles or not isinstance(content, str):
                self._answer(400, {"error": "a message has a seq of this run's cycles and a content"})
                return
            peer.record.hear(Message(peer.id, seq, content))
            self._answer(200, {"content": peer.record.content(peer.id, seq)})
            peer.heard_from()
        else:
            self._answer(404, {"error": "no such path"})

    def _body(self) -> dict[str, Any] | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            self._answer(411, {"error": "without Content-Length"})
        elif int(length) > BIGGEST_BODY:
            self._answer(413, {"error": f"more than {BIGGEST_BODY} bytes"})
        else:
            try:
                body = json.loads(self.rfile.read(int(length)))
            except (OSError, ValueError):
                body = None
            if isinstance(body, dict):
                return body
            self._answer(400, {"error": "not a JSON object"})
        return None

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            log.debug("the caller has gone")  # it will ask again

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the events worth a line are logged where they happen."""
