"""An instance's receipt: what was tried from inside its unit before its code ran, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from .json_records import Record, choice

LIMIT = 2**20  # bytes
KINDS = ("connect", "create", "exists", "list", "processes", "read", "run", "write")


@dataclass(frozen=True)
class Attempt(Record):
    """What is to be tried. expected: whether it must succeed; None: either way is as the experiment asked.

    target: of "connect" address and port; of "list" a folder and the names that it may show; of "run" a command; else a
    path. promise: the node's promise (`contract.promises`) without which it may go the other way; empty: it never may.
    """

    name: str
    kind: str = choice(KINDS)
    target: Tuple[str, ...] = ()
    expected: Optional[bool] = None
    promise: str = ""


@dataclass(frozen=True)
class Attempts(Record):
    """What is to be tried for one instance. lacking: the promises that its node does not make."""

    attempts: Tuple[Attempt, ...] = ()
    lacking: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Result(Record):
    """What came of an attempt. kept: whether it went as it must on this node."""

    name: str
    succeeded: bool
    kept: bool
    detail: str = ""


@dataclass(frozen=True)
class Receipt(Record):
    """What holds for an instance on its node.

    disk: what keeps its folder within its size: "quota", the file system's, or "guard", root's.
    """

    results: Tuple[Result, ...] = ()
    lacking: Tuple[str, ...] = ()
    systemd: int = 0
    disk: str = ""

    @property
    def broken(self) -> Tuple[Result, ...]:
        """The attempts that went as they must not."""
        return tuple(result for result in self.results if not result.kept)
