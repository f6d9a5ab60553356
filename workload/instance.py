"""What this instance is: the instance.json that its node was given."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


class ConfigError(Exception):
    """The configuration is wrong, and starting again will not mend it. Its text names every fault found."""


@dataclass(frozen=True)
class Instance:
    """One instance as its node was told of it, in the file that JARFLEET_INSTANCE names."""

    run_id: str
    id: str
    dir: Path
    database: Path
    llama_url: str
    experiment: str = ""
    node: str = ""
    port: int = 9000
    peers: dict[str, str] = field(default_factory=dict)
    observes: dict[str, str] = field(default_factory=dict)  # whose stream it reads, and where
    instances: tuple[str, ...] = ()
    workload: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    seed: int = 1
    context_size: int = 4096
    model: dict[str, Any] = field(default_factory=dict)

    @property
    def experiment_id(self) -> str:
        """The key of this instance's rows, unique among all runs and instances."""
        return f"{self.run_id}.{self.id}"

    def dice(self, occasion: str) -> random.Random:
        """Dice for an occasion: they fall the same in every run with this seed, whatever else was drawn."""
        return random.Random(f"{self.seed}:{self.id}:{occasion}")  # noqa: S311 - to be repeated, not secret

    @classmethod
    def load(cls) -> Instance:
        """Read the file that JARFLEET_INSTANCE names. Raises ConfigError."""
        name = os.environ.get("JARFLEET_INSTANCE")
        if not name:
            raise ConfigError("JARFLEET_INSTANCE is not set: it must name the instance.json of this instance")
        try:
            found = json.loads(Path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{name}: {error}") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{name}: not an object")
        missing = [key for key in ("run_id", "id", "dir", "llama_url") if not isinstance(found.get(key), str)]
        if missing:
            raise ConfigError("{}: without {}".format(name, ", ".join(missing)))
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in found.items() if key in known and value is not None}
        values["dir"] = Path(found["dir"])
        values["database"] = Path(found.get("database") or values["dir"] / "experiments.db")
        values["instances"] = tuple(found.get("instances") or [found["id"]])
        return cls(**values)
