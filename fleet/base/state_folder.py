"""Where the controller keeps what must survive it, and is its user's alone: below $XDG_STATE_HOME."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII)
UNFIT = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)


def as_file_name(name: str) -> str:
    """Return a name that a person chose as one that a file can have: itself, or what is like it, with its hash."""
    if NAME.fullmatch(name):
        return name
    return f"_{UNFIT.sub('_', name)[:60]}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def state_folder(kind: str) -> Path:
    """Return the folder for one kind of state, `~/.local/state/jarfleet/<kind>`; it may not be there yet."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "jarfleet" / kind
