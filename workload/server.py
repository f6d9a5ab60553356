"""Serves JSON over HTTP: for messages between peers, and for the relay of a subject's stream."""

from __future__ import annotations

import json
import logging
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .peers import CODE, EPOCH, NONCE, SENDER, Asked, Own, authentic, number

log = logging.getLogger(__name__)


class DualStackServer(ThreadingHTTPServer):
    """Listens at a port of all addresses, of IPv4 and of IPv6 where there is any: its network says who may call.

    own: as whom it answers.
    """

    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler], own: Own) -> None:
        self.own = own
        super().__init__(("", port), handler)

    def server_bind(self) -> None:
        """Bind, for IPv4 as well; HTTPServer would look up the machine's name, which may take seconds."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)


class JsonHandler(BaseHTTPRequestHandler):
    """Answers in JSON, and logs nothing: the events worth a line are logged where they happen."""

    timeout = 10  # seconds of silence after which a caller is dropped
    server: DualStackServer
    known: tuple[Asked, str] | None = None  # the request that is being answered, and the key that it was made with

    def caller(self, body: bytes = b"") -> str | None:
        """The instance that has made the request with its key; None if it is nobody's whose key is known.

        None also if a later epoch of it was met: then that one is the instance.
        """
        own = self.server.own
        sender, epoch, nonce, code = (self.headers.get(name, "") for name in (SENDER, EPOCH, NONCE, CODE))
        asked = Asked(sender, number(epoch), own.id, nonce, self.command, self.path, body)
        known = authentic(asked, code, own.keys) and own.epochs.accepts(sender, asked.epoch)
        self.known = (asked, own.keys[sender]) if known else None
        return sender if known else None

    def asked(self) -> tuple[str, dict[str, str]]:
        """The path of the request, and the values of its query."""
        url = urlsplit(self.path)
        return url.path, {key: values[0] for key, values in parse_qs(url.query).items()}

    def answer(self, status: int, body: Any) -> None:
        """Send the answer. A caller that has gone is no error: it will ask again."""
        content = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if self.known:
                asked, key = self.known
                epoch = self.server.own.epoch
                self.send_header(EPOCH, str(epoch))
                self.send_header(CODE, asked.code_of_answer(key, epoch, status, content))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            log.debug("the caller has gone")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing (see the class)."""
