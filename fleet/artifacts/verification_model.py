"""The generated model with which each node verifies a build of llama.cpp before it is used; never a user's model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fleet.artifacts import tiny_model
from fleet.base.files import file_sha256

NAME = "verify.gguf"


@dataclass(frozen=True)
class VerificationModel:
    """The model's file on the controller; a check does not create it."""

    path: Path
    sha256: str


def verification_model(cache: Path, *, check: bool = False) -> VerificationModel:
    """Return the model in the cache, generated if missing; with `check` nothing is left behind."""
    path = cache / "llama.cpp" / NAME
    if not path.is_file() and check:
        with tempfile.TemporaryDirectory(prefix="jarfleet.verify.") as scratch:
            made = Path(scratch) / NAME
            tiny_model.ensure(made)
            return VerificationModel(path, file_sha256(made))
    if not path.is_file():
        tiny_model.ensure(path)
    return VerificationModel(path, file_sha256(path))
