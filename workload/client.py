"""JSON over HTTP, and patience: the two things that talking to llama-server and talking to a peer share."""

from __future__ import annotations

import http.client
import json
import logging
import time
from typing import Any, Callable, Mapping, NamedTuple, TypeVar
from urllib.parse import urlsplit

log = logging.getLogger(__name__)
T = TypeVar("T")
LONGEST_WAIT = 1.0  # seconds between two attempts


class Unavailable(Exception):
    """Nobody answers just now, or not yet: worth another attempt."""


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def value(self) -> Any:
        """The decoded answer, None if it is not JSON."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None


def exchange(url: str, method: str, path: str, data: bytes, headers: Mapping[str, str], timeout: float) -> Answer:
    """Send `data`, which is JSON, and return the answer.

    Raises Unavailable if there is no whole answer within `timeout` seconds of silence, or a 503.
    http.client and not urllib: a proxy in the environment must not stand between two nodes.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    try:
        headers = {"Content-Type": "application/json", **headers}
        connection.request(method, parts.path.rstrip("/") + path, data or None, headers)
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.headers), response.read())
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"{url}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if answer.status == 503:  # llama-server while it loads its model
        raise Unavailable(f"{url}: not ready (503)")
    return answer


def request(url: str, method: str, path: str, body: Any = None, timeout: float = 10) -> tuple[int, Any]:
    """As exchange(), with JSON both ways: the status and the decoded answer (None if it is not JSON)."""
    answer = exchange(url, method, path, b"" if body is None else json.dumps(body).encode(), {}, timeout)
    return answer.status, answer.value()


def persist(what: str, attempt: Callable[[], T]) -> T:
    """Call `attempt` until it does not raise Unavailable, and say so when the waiting begins and ends."""
    wait = 0.05
    while True:
        try:
            result = attempt()
        except Unavailable as error:
            if wait == 0.05:
                log.info("waiting for %s: %s", what, error)
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        else:
            if wait > 0.05:
                log.info("%s answers", what)
            return result
