"""Which builds of llama.cpp restore a slot of which models truly: tried at each resumption, and remembered here.

One file a pair, `~/.local/state/jarfleet/slots/<build>-<model>.json`. A pair that was not tried yet is given the
benefit of the doubt: what a slot is worth is only known once it was restored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contract.json_records import ContractError, Record
from contract.slot import Restored
from fleet.base.files import write_json
from fleet.base.state_folder import state_folder

LIMIT = 4096  # bytes


@dataclass(frozen=True)
class Trial(Record):
    """What came of restoring a slot of a model (its sha256) by a build of llama.cpp (its key), the last time."""

    build: str
    model: str
    is_exact: bool
    words: str


def remember(build: str, model: str, came: Restored) -> None:
    """Keep what came of it. Raise OSError. A slot that was damaged says nothing of the pair."""
    if build and not came.problem:
        folder = state_folder("slots")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(_file(build, model), Trial(build, model, came.is_exact, came.words).to_json())


def problem(build: str, model: str) -> str:
    """Return why a build's slots of a model are of no use; empty if they are, as far as is known."""
    try:
        trial = Trial.from_file(_file(build, model), LIMIT)
    except (FileNotFoundError, ContractError):
        return ""
    return "" if trial.is_exact else f"llama.cpp {build[:12]} does not restore slots of this model"


def _file(build: str, model: str) -> Path:
    return state_folder("slots") / f"{build[:64]}-{model[:64]}.json"
