"""What this instance is: the instance.json that its node was given."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

from contract import ContractError
from contract.description import LIMIT, InstanceDescription


class ConfigError(Exception):
    """The configuration is wrong, and starting again will not mend it. Its text names every fault found."""


@dataclass(frozen=True)
class Instance(InstanceDescription):
    """The instance that this process belongs to."""

    @property
    def experiment_id(self) -> str:
        """The key of this instance's rows, unique among all runs and instances."""
        return f"{self.run_id}.{self.id}"

    def random_generator(self, occasion: str) -> random.Random:
        """A random generator for an occasion: the same in every run with this seed, whatever else was drawn."""
        return random.Random(f"{self.seed}:{self.id}:{occasion}")  # noqa: S311 - to be repeated, not secret

    @classmethod
    def load(cls) -> Instance:
        """Read the file that JARFLEET_INSTANCE names. Raises ConfigError."""
        name = os.environ.get("JARFLEET_INSTANCE")
        if not name:
            raise ConfigError("JARFLEET_INSTANCE is not set: it must name the instance.json of this instance")
        try:
            return cls.from_file(Path(name), LIMIT)
        except OSError as error:
            raise ConfigError(f"{name}: {error}") from error
        except ContractError as error:
            raise ConfigError(f"{Path(name).parent}/{error}") from error
