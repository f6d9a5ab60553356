"""The stream relay: serves what a subject says to its observers, and reads it for them; nothing goes the other way.

`python3 -m workload.stream_relay` serves the instance that JARFLEET_INSTANCE names. It runs beside the subject, as
another user that may read the subject's folder and write nothing, and answers who has an observer's key

    GET /stream?after=3&wait=10   -> {"lines": [[4, {...}], ...], "end", "ended"}
    GET /health                   -> {"status": "ok"}

`lines` are rows of the subject's table `messages` after that number, at most a batch; they are numbered from 1 in the
order of logs/stream.jsonl. With nothing there yet the answer waits, up to `wait` seconds. `end` is how many there are,
`ended` whether the subject has ended: none will follow.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import time
from array import array
from datetime import datetime
from pathlib import Path
from typing import Any, Mapping

from contract import ContractError, names
from contract.exits import START_LIMIT, Start, read_exits

from .client import Unavailable
from .peers import Own, Peer, own_keys
from .server import DualStackServer, JsonHandler
from .this_instance import Instance

log = logging.getLogger(__name__)
LONGEST_WAIT = 30.0  # seconds
LOOK = 0.1  # seconds between two looks at the file
GIVEN_UP = 30.0  # seconds; systemd starts what died again after one
BATCH_LINES, BATCH_BYTES = 500, 2**20


def read(subject: Peer, after: int, wait: float) -> tuple[list[dict[str, Any]], bool]:
    """(The subject's messages after that many, whether they are its last). Raises Unavailable."""
    status, answer = subject.request("GET", f"/stream?after={after}&wait={wait:g}", timeout=wait + 10)
    if status != 200 or not isinstance(answer, dict):
        raise Unavailable(f"{subject.url}: answers {status} {answer}")
    rows = [row for _, row in answer["lines"]]
    return rows, bool(answer["ended"] and after + len(rows) >= answer["end"])


class Subject:
    """What a subject has said so far, read from its folder as it grows. The methods may be called from any thread."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._stream = directory, directory / names.STREAM
        self._lock = threading.Lock()
        self._starts = array("Q")  # where the line of each message begins
        self._known = 0  # bytes of whole lines that have been looked at

    def count(self) -> int:
        """The number of messages so far. Raises OSError when the file cannot be read."""
        with self._lock:
            try:
                size = self._stream.stat().st_size
            except FileNotFoundError:  # it has not begun to speak
                size = 0
            if size < self._known:  # the folder was put back to an older state
                self._starts, self._known = array("Q"), 0
            if size > self._known:
                with self._stream.open("rb") as lines:
                    lines.seek(self._known)
                    for line in lines:
                        if not line.endswith(b"\n"):  # it is being written, or a death tore it
                            break
                        if _message(line) is not None:
                            self._starts.append(self._known)
                        self._known += len(line)
            return len(self._starts)

    def lines(self, after: int) -> list[tuple[int, dict[str, Any]]]:
        """The messages after that number, with theirs; at most a batch."""
        with self._lock:
            starts = self._starts[after : after + BATCH_LINES]
        found: list[tuple[int, dict[str, Any]]] = []
        size = 0
        if starts:
            with self._stream.open("rb") as file:
                for number, start in enumerate(starts, after + 1):
                    file.seek(start)
                    line = file.readline()
                    size += len(line)
                    if found and size > BATCH_BYTES:
                        break
                    found.append((number, _message(line) or {}))
        return found

    def has_ended(self) -> bool:
        """Whether the subject has an outcome: it completed, or was stopped."""
        return (self._directory / names.OUTCOME).exists()

    def is_given_up(self) -> bool:
        """Whether its process has died and no other began in time. It leaves no outcome then until it is collected."""
        found = read_exits(self._directory / names.EXIT_LOG).of(names.WORKLOAD)
        try:
            start = Start.from_file(self._directory / names.start_file(names.WORKLOAD), START_LIMIT)
        except (OSError, ContractError):
            return False
        if not found or found[-1].invocation != start.invocation:
            return False
        try:
            ended = datetime.fromisoformat(found[-1].time or "").timestamp()
        except ValueError:
            return False
        return time.time() - ended > GIVEN_UP


def _message(line: bytes) -> dict[str, Any] | None:
    """The row of the table `messages` in a line of the stream, if it is one."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.pop("table", "") == "messages" else None


class Server(DualStackServer):
    """The relay. Its unit's firewall says who may call, and the observers' keys who may read."""

    def __init__(self, instance: Instance, observers: Mapping[str, str]) -> None:
        super().__init__(instance.port, Handler, Own(instance.id, instance.epoch, observers))
        self.subject = Subject(instance.dir)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(JsonHandler):
    """Answers observers, and writes nothing."""

    server: Server

    def do_GET(self) -> None:
        """/stream and /health."""
        path, asked = self.asked()
        try:
            if path == "/health":
                self.server.subject.count()
                self.answer(200, {"status": "ok"})
            elif self.caller() is None:
                self.answer(403, {"error": "made without the key of an observer"})
            elif path == "/stream":
                after, wait = int(asked.get("after", "0")), float(asked.get("wait", "0"))
                if after < 0 or after >= 2**63 or not math.isfinite(wait):
                    raise ValueError(f"after={after}&wait={wait}")
                self.answer(200, self._stream(after, min(wait, LONGEST_WAIT)))
            else:
                self.answer(404, {"error": "there is /stream and /health"})
        except ValueError as error:
            self.answer(400, {"error": f"after and wait are numbers from 0: {error}"})
        except PermissionError as error:
            self.answer(500, {"error": f"the subject's folder must be readable: {error}"})

    def _stream(self, after: int, wait: float) -> dict[str, Any]:
        subject, deadline = self.server.subject, time.monotonic() + wait
        while True:
            ended = subject.has_ended()  # asked first: what was said before the end is then among the lines
            end = subject.count()
            if ended or end > after:
                break
            if time.monotonic() >= deadline:
                ended = subject.is_given_up()
                end = subject.count()
                break
            time.sleep(LOOK)
        return {"lines": subject.lines(after), "end": end, "ended": ended}


def main() -> None:
    """Serve until killed."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    instance = Instance.load()
    with Server(instance, own_keys()) as server:
        log.info("serves the stream of %s at port %d", instance.experiment_id, instance.port)
        server.serve_forever()


if __name__ == "__main__":
    main()
