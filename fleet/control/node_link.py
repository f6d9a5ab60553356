"""One connection a node, kept open: reports come in, renewals of leases go out. One that hangs delays no other.

What a node says is data with a size limit and a schema; a line that is anything else closes the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Callable

from contract import ContractError
from contract.attention import ELSEWHERE, LIMIT, Attend, Renewal, Report
from contract.calls import Call
from contract.json_records import decoded
from fleet.base.terminal import plain
from fleet.control.loop_file import LoopFile

AGAIN_SECONDS = 2.0  # after a connection has ended
ANSWER_SECONDS = 15.0  # beyond the interval, after which a connection counts as dead
BLOCK = 65536
SAID = 300  # characters of what a connection's end is explained with

log = logging.getLogger("control")


class NodeLink:
    """The connection to one node; opened again whenever it ends."""

    def __init__(self, name: str, file: LoopFile, heard: Callable[[str, Report], None]) -> None:
        """heard: called with the node's name and each report."""
        self.name, self.problem, self.bytes_read = name, "", 0
        self.is_taken = False  # it obeys another controller, as it said last
        self._file, self._node, self._heard = file, file.nodes[name], heard
        self._process: asyncio.subprocess.Process | None = None

    def renew(self, renewal: Renewal) -> None:
        """Send a renewal; nothing happens where there is no connection, or it takes nothing more."""
        process = self._process
        if process and process.stdin and not process.stdin.is_closing():
            if process.stdin.transport.get_write_buffer_size() > LIMIT:  # a node that reads nothing
                return
            process.stdin.write(_line(renewal.to_json()))

    async def keep_open(self) -> None:
        """Connect, listen, and connect again, until cancelled."""
        while True:
            try:
                problem = await self._listen()
            except (OSError, ContractError, TimeoutError) as error:
                problem = str(error) or "it did not answer in time"
            if problem != self.problem:
                log.warning("%s: %s", self.name, problem)
            self.problem, self.is_taken = problem, ELSEWHERE in problem
            await asyncio.sleep(AGAIN_SECONDS)

    async def _listen(self) -> str:
        """Serve one connection to its end, and return why it ended."""
        process = await asyncio.create_subprocess_exec(
            *self._node.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is the loop's alone
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None  # noqa: S101, PT018
        said = asyncio.create_task(_last_line(process.stderr))
        try:
            process.stdin.write(_line(Call("attend", self._opening().to_json()).to_json()))
            self._process = process
            closing, buffer = "", bytearray()
            while not closing:
                reading = _read(process.stdout, buffer)
                line = await asyncio.wait_for(reading, self._file.interval_seconds + ANSWER_SECONDS)
                if not line:
                    break
                self.bytes_read += len(line)
                report = Report.from_json(decoded(line, self.name), self.name)
                closing, self.is_taken = plain(report.closing), False
                self._heard(self.name, report)
            return closing or await asyncio.wait_for(said, AGAIN_SECONDS) or "the connection ended"
        finally:
            self._process = None
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)  # process.kill() would take its exit status from asyncio
            # asyncio notices the end of a process once all that it had written is read.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(_drain(process.stdout), process.wait()), AGAIN_SECONDS)
            said.cancel()

    def _opening(self) -> Attend:
        file, node = self._file, self._node
        return Attend(
            work_dir=node.work_dir,
            owner=node.owner,
            controller=file.controller,
            term=file.term,
            takeover=file.takeover,
            interval_seconds=file.interval_seconds,
            memory_percent=node.memory_percent,
            disk_percent=node.disk_percent,
        )


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


async def _read(stream: asyncio.StreamReader, buffer: bytearray) -> bytes:
    """Return the next line, empty at the end. buffer: what is read already. Raise ContractError for one too long."""
    while (end := buffer.find(b"\n")) < 0:
        if len(buffer) > LIMIT:
            raise ContractError(f"a report of more than {LIMIT} bytes")
        block = await stream.read(BLOCK)
        if not block:
            return b""
        buffer += block
    line = bytes(buffer[: end + 1])
    del buffer[: end + 1]
    return line


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(BLOCK):
        pass


async def _last_line(stream: asyncio.StreamReader) -> str:
    """Return the end of what is printed, read to its end so that nobody waits for room."""
    last = b""
    while block := await stream.read(4096):
        last = (last + block)[-SAID:]
    lines = last.decode(errors="replace").strip().splitlines()
    return plain(lines[-1]) if lines else ""
