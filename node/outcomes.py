"""Writes `outcome.json`, how an instance has ended: also on a disk that is full."""

from __future__ import annotations

import errno
import json
from pathlib import Path

from contract import names
from contract.outcome import Outcome

from . import shared_folder

RESERVE = ".reserve"  # gives its room to the outcome
RESERVED_BYTES = 8192  # two blocks of most file systems: one for the text, one to spare


def reserve(folder: Path) -> None:
    """Take the room that writing the outcome will need. Raises OSError."""
    shared_folder.write(folder / RESERVE, "\n" * RESERVED_BYTES)


def write(folder: Path, outcome: Outcome) -> None:
    """Write the outcome unless the node has written one. Raises OSError."""
    text = json.dumps(outcome.to_json()) + "\n"
    try:
        shared_folder.write(folder / names.OUTCOME, text, replace=False)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        (folder / RESERVE).unlink()
        shared_folder.write(folder / names.OUTCOME, text, replace=False)
