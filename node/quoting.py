"""How a value is written into a unit file: quoted for the directive that it stands in, or rejected."""

from __future__ import annotations

import re
from typing import Sequence

from .errors import NodeError

PLAIN = re.compile(r"[A-Za-z0-9_@./+,=-]+", re.ASCII)  # needs no quotes in a list of words
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # what ends a line, and what a terminal acts on that shows the unit


def exec_line(words: Sequence[str]) -> str:
    """A command as ExecStart= wants it: each word quoted, `%` and `$` without their special meaning."""
    return " ".join(_quoted(part).replace("$", "$$") for part in words)


def line(path: str) -> str:
    """A path that is all of a directive's value: spaces and quotes stand for themselves there."""
    return _checked(path).replace("%", "%%")


def word(text: str) -> str:
    """One word in a directive's list of words; quoted where it needs it."""
    return _checked(text) if PLAIN.fullmatch(text) else _quoted(_checked(text))


def hook_line(words: Sequence[str]) -> str:
    """A command of our own for ExecStartPre= or ExecStopPost=."""
    return " ".join(word(part).replace("$", "$$") for part in words)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    escaped = CONTROL.sub(lambda found: "".join(f"\\x{byte:02x}" for byte in found[0].encode()), escaped)
    return f'"{escaped}"'


def _checked(path: str) -> str:
    if CONTROL.search(path):
        raise NodeError(f"{path!r}: has a control character, which no unit can name; correct remote_work_dir")
    return path
