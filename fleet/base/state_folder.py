"""Where the controller keeps what must survive it, and is its user's alone: below $XDG_STATE_HOME."""

from __future__ import annotations

import os
from pathlib import Path


def state_folder(kind: str) -> Path:
    """Return the folder for one kind of state, `~/.local/state/jarfleet/<kind>`; it may not be there yet."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "jarfleet" / kind
