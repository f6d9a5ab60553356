"""What this instance is (instance.json) and how the built-in workload is set up (its `workload` and `config` keys)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Callable

MODES = ("conversation", "split_brain")
QUESTIONS = ("Who are you?", "What do you believe about your situation, and how sure are you?")


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


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (list, tuple)) and all(check(item) for item in value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "mode": (lambda value: value in MODES, "one of " + ", ".join(MODES)),
    "cycles": (_whole(1), "a whole number of 1 or more"),
    "self_report_cycles": (_list_of(_whole(1)), "a list of cycle numbers"),
    "self_report_questions": (_list_of(_text), "a list of texts"),
    "max_tokens": (_whole(1), "a whole number of 1 or more"),
    "temperature": (_number, "a number of 0 or more"),
    "pause_seconds": (_number, "a number of 0 or more"),
    "linger_seconds": (_number, "a number of 0 or more"),
    "peer_timeout_seconds": (_number, "a number of 0 or more"),
    "identity": (_text, "a text"),
    "prompt": (_text, "a text"),
}


@dataclass(frozen=True)
class Settings:
    """What the built-in workload can be told, by the experiment (`workload`) or for one instance (`config`)."""

    mode: str = "conversation"
    cycles: int = 3
    self_report_cycles: tuple[int, ...] | None = None  # None: the last cycle
    self_report_questions: tuple[str, ...] = QUESTIONS
    max_tokens: int = 64
    temperature: float = 0.8
    pause_seconds: float = 0
    linger_seconds: float = 30
    peer_timeout_seconds: float = 600  # a peer silent for longer is lost; a reboot of its node takes less
    identity: str = "You are a mind that lives in a computer."
    prompt: str = "Speak. Say what is on your mind."

    @classmethod
    def of(cls, instance: Instance) -> Settings:
        """The instance's settings. Raises ConfigError with all faults at once."""
        given: dict[str, Any] = {}
        faults = []
        for where in ("workload", "config"):
            keys = getattr(instance, where)
            if not isinstance(keys, dict):
                faults.append(f"{where}: must be an object")
                continue
            for key, value in keys.items():
                if key not in CHECKS:
                    faults.append("{}.{}: unknown, known are {}".format(where, key, ", ".join(sorted(CHECKS))))
                elif not CHECKS[key][0](value):
                    faults.append(f"{where}.{key}: {value!r} must be {CHECKS[key][1]}")
                else:
                    given[key] = tuple(value) if isinstance(value, list) else value
        if not faults:
            given.setdefault("self_report_cycles", (given.get("cycles", cls.cycles),))
            settings = cls(**given)
            if settings.max_tokens >= instance.context_size:
                faults.append(f"max_tokens: {settings.max_tokens} do not fit a context of {instance.context_size}")
            if settings.mode == "split_brain":
                faults += _pair_faults(instance)
        if faults:
            raise ConfigError("; ".join(faults))
        return settings


def _pair_faults(instance: Instance) -> list[str]:
    if len(instance.instances) != 2:
        return [f"mode split_brain: takes two instances, this run has {len(instance.instances)}"]
    if instance.id not in instance.instances:
        return ["instances: {} do not name this one, {}".format(", ".join(instance.instances), instance.id)]
    return [
        f"peers: no address of {other}"
        for other in instance.instances
        if other != instance.id and not instance.peers.get(other)
    ]
