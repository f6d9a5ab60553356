"""Serves JSON over HTTP: for messages between peers, and for the relay of a subject's stream."""

from __future__ import annotations

import json
import logging
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Mapping
from urllib.parse import parse_qs, urlsplit

from .peers import CODE, NONCE, SENDER, Asked, authentic

log = logging.getLogger(__name__)


class DualStackServer(ThreadingHTTPServer):
    """Listens at a port of all addresses, of IPv4 and of IPv6 where there is any: its network says who may call."""

    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("", port), handler)

    def server_bind(self) -> None:
        """Bind, for IPv4 as well; HTTPServer would look up the machine's name, which may take seconds."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)


class JsonHandler(BaseHTTPRequestHandler):
    """Answers in JSON, and logs nothing: the events worth a line are logged where they happen."""

    timeout = 10  # seconds of silence after which a caller is dropped
    known: tuple[Asked, str] | None = None  # the request that is being answered, and the key that it was made with

    def caller(self, own_id: str, keys: Mapping[str, str], body: bytes = b"") -> str | None:
        """The instance that has made the request with its key; None if it is nobody's whose key is known."""
        sender, nonce, code = (self.headers.get(name, "") for name in (SENDER, NONCE, CODE))
        asked = Asked(sender, own_id, nonce, self.command, self.path, body)
        self.known = (asked, keys[sender]) if authentic(asked, code, keys) else None
        return sender if self.known else None

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
                self.send_header(CODE, asked.code_of_answer(key, status, content))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            log.debug("the caller has gone")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing (see the class)."""
