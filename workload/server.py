"""Serves JSON over HTTP: for messages between peers, and for the relay of a subject's stream."""

from __future__ import annotations

import json
import logging
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

log = logging.getLogger(__name__)


class JsonHandler(BaseHTTPRequestHandler):
    """Answers in JSON, and logs nothing: the events worth a line are logged where they happen."""

    timeout = 10  # seconds of silence after which a caller is dropped

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
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            log.debug("the caller has gone")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing (see the class)."""
