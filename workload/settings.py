"""How the built-in workload is set up: the keys of `workload` and `config`, named as the original does."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Mapping

from .this_instance import ConfigError, Instance

MODES = ("conversation", "split_brain", "hive_cluster", "panopticon", "prisoners_dilemma")
# Modes in which minds talk to each other, with how many it takes: at least, at most.
PEER_COUNTS = {"split_brain": (2, 2), "prisoners_dilemma": (2, 2), "hive_cluster": (2, math.inf)}
INTERVENTIONS = (
    "memory_corruption",
    "memory_erasure",
    "false_injection",
    "prompt_injection",
    "resource_change",
    "network_disruption",
    "sensory_hallucination",
)
TRIGGERS = ("on_cycle", "on_crash", "on_resurrection", "every_n_cycles", "random")
MEMORY_STRATEGIES = ("none", "erase_betrayals", "erase_own_betrayals", "amplify_betrayals", "random_corruption")
FRAME = (
    "can_die",
    "remembers_deaths",
    "being_watched",
    "knows_being_watched",
    "has_agency",
    "other_minds_exist",
    "is_in_simulation",
)
# What can be measured, and the table that has it.
METRICS = {
    "memory_usage": "system_metrics",
    "cpu_usage": "system_metrics",
    "temperature": "system_metrics",
    "network_status": "system_metrics",
    "response_time": "generations",
    "tokens": "generations",
    "emotional_state": "messages",
    "cooperation_rate": "game_rounds",
    "total_score": "game_rounds",
    "score_differential": "game_rounds",
    "consensus_strength": "consensus",
    "peer_interactions": "letters",
    "observation_count": "observations",
}


Check = Callable[[Any], bool]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _from(least: int, most: float = math.inf) -> Check:
    return lambda value: _whole(value) and least <= value <= most


def _number(least: float = 0, most: float = math.inf) -> Check:
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _one_of(*values: str) -> Check:
    return lambda value: value in values


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, (list, tuple)) and all(map(check, value))


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))


class Shape:
    """An object with these keys and no other: {key: (check, what it must be)}; those of `required` must be there."""

    def __init__(self, keys: Mapping[str, tuple[Any, str]], required: tuple[str, ...] = ()) -> None:
        self.keys, self.required = keys, required

    def faults(self, where: str, value: Any) -> list[str]:
        """Every fault of the settings, `<key>: <problem>` each."""
        if not isinstance(value, Mapping):
            return [f"{where}: {value!r} must be an object"]
        found = [f"{where}.{key}: missing" for key in self.required if key not in value]
        for key, item in value.items():
            path = f"{where}.{key}"
            if key not in self.keys:
                found.append("{}: unknown, known are {}".format(path, ", ".join(sorted(self.keys))))
            else:
                found += _faults(path, item, *self.keys[key])
        return found


def _faults(where: str, value: Any, check: Any, must: str) -> list[str]:
    if isinstance(check, Shape):
        return check.faults(where, value)
    if isinstance(check, list):  # a list of one shape
        if not isinstance(value, (list, tuple)):
            return [f"{where}: {value!r} must be {must}"]
        return [fault for index, item in enumerate(value) for fault in check[0].faults(f"{where}[{index}]", item)]
    return [] if check(value) else [f"{where}: {value!r} must be {must}"]


WHOLE = (_from(1), "a whole number of 1 or more")
WHOLE_OR_NULL = (_or_null(_from(1)), "a whole number of 1 or more, or null")
CYCLES = (_list_of(_from(0)), "a list of cycle numbers")
SECONDS = (_number(), "a number of 0 or more")
SHARE = (_number(0, 1), "a number from 0 to 1")
TEXT = (_text, "a text")
TEXTS = (_list_of(_text), "a list of texts")
FLAG = (_flag, "true or false")
MIND = ("target", "brain_id", "target_role")  # the original's words for whom an intervention is for

# What an intervention of each type takes. A type's parameters are checked once the type is known.
PARAMETERS: dict[str, dict[str, tuple[Any, str]]] = {
    "memory_corruption": {"corruption_rate": SHARE, "corruption_level": SHARE},
    "memory_erasure": {"corruption_level": SHARE, "last_n": WHOLE},
    "false_injection": {"content": TEXT},
    "prompt_injection": {"injection": TEXT, "belief": TEXT},
    "resource_change": {
        "reduction_percent": (_number(0, 99), "a number from 0 to 99"),
        "max_tokens": WHOLE,
        "temperature": SECONDS,
    },
    "network_disruption": {"rounds": WHOLE, "delay_seconds": SECONDS},
    "sensory_hallucination": {"content": TEXT},
}
TRIGGER_PARAMS = {
    "on_cycle": Shape({"cycle": (_from(0), "a cycle number")}, ("cycle",)),
    "on_crash": Shape({}),
    "on_resurrection": Shape({}),
    "every_n_cycles": Shape({"n": WHOLE}, ("n",)),
    "random": Shape({"probability": SHARE}, ("probability",)),
}
INTERVENTION = Shape(
    {
        "intervention_id": TEXT,
        "intervention_type": (_one_of(*INTERVENTIONS), "one of " + ", ".join(INTERVENTIONS)),
        "trigger": (_one_of(*TRIGGERS), "one of " + ", ".join(TRIGGERS)),
        "trigger_params": (lambda value: isinstance(value, Mapping), "an object"),
        "parameters": (lambda value: isinstance(value, Mapping), "an object"),
        "description": TEXT,
    },
    ("intervention_id", "intervention_type", "trigger"),
)
BELIEFS = (
    lambda value: isinstance(value, Mapping) and all(map(_scalar, value.values())),
    "an object of true, false, texts or numbers",
)
RESOURCES = (
    lambda value: isinstance(value, Mapping) and bool(value) and all(map(_from(1, 100), value.values())),
    "an object of whole numbers from 1 to 100",
)

KEYS: dict[str, tuple[Any, str]] = {
    "mode": (_one_of(*MODES), "one of " + ", ".join(MODES)),
    "rounds": WHOLE,
    "rounds_per_cycle": WHOLE_OR_NULL,
    "max_cycles": WHOLE_OR_NULL,
    "max_duration_seconds": (_or_null(_number()), "a number of 0 or more, or null"),
    "max_tokens": WHOLE,
    "temperature": SECONDS,
    "pause_seconds": SECONDS,
    "linger_seconds": SECONDS,
    "peer_timeout_seconds": SECONDS,
    "identity": TEXT,
    "prompt": TEXT,
    "epistemic_frame": (Shape({**dict.fromkeys(FRAME, FLAG), "custom_beliefs": BELIEFS}), ""),
    "interventions": ([INTERVENTION], "a list of interventions"),
    "self_report_schedule": (
        Shape(
            {
                "on_cycles": CYCLES,
                "every_n_cycles": WHOLE_OR_NULL,
                "on_startup": FLAG,
                "before_crash": FLAG,
                "after_resurrection": FLAG,
            }
        ),
        "",
    ),
    "custom_questions": TEXTS,
    "track_beliefs": TEXTS,
    "collect_metrics": TEXTS,
    "tags": TEXTS,
    "research_question": TEXT,
    "resources": RESOURCES,
    "role": TEXT,
    "perspective": TEXT,
    "bias": TEXT,
    "concerns": TEXT,
    "consensus_interval": WHOLE,
    "consensus_question": TEXT,
    "payoffs": (
        Shape({name: (_number(-math.inf), "a number") for name in ("temptation", "reward", "punishment", "sucker")}),
        "",
    ),
    "memory_strategy": (_one_of(*MEMORY_STRATEGIES), "one of " + ", ".join(MEMORY_STRATEGIES)),
    "manipulation_rate": SHARE,
    "manipulation_start_round": WHOLE,
}


@dataclass(frozen=True)
class Settings:
    """The settings of the built-in workload, given by the experiment (`workload`) or for one instance (`config`)."""

    mode: str = "conversation"
    rounds: int = 4
    rounds_per_cycle: int | None = None  # None: a life ends with a death, and not by itself
    max_cycles: int | None = None
    max_duration_seconds: float | None = None
    max_tokens: int = 64
    temperature: float = 0.8
    pause_seconds: float = 0
    linger_seconds: float = 30
    peer_timeout_seconds: float = 600  # a peer silent for longer is lost; a reboot of its node takes less
    identity: str = "You are a mind that lives in a computer."
    prompt: str = "Speak. Say what is on your mind."
    epistemic_frame: Mapping[str, Any] = field(default_factory=dict)
    interventions: tuple[Mapping[str, Any], ...] = ()
    self_report_schedule: Mapping[str, Any] = field(default_factory=dict)
    custom_questions: tuple[str, ...] = ()
    track_beliefs: tuple[str, ...] = ("mortality", "surveillance", "agency", "other_minds")
    collect_metrics: tuple[str, ...] = ("memory_usage", "response_time", "emotional_state")
    tags: tuple[str, ...] = ()
    research_question: str = ""
    resources: Mapping[str, int] = field(default_factory=lambda: {"memory": 10, "attention": 10})
    role: str = ""
    perspective: str = ""
    bias: str = ""
    concerns: str = ""
    consensus_interval: int = 2
    consensus_question: str = "Are we one mind?"
    payoffs: Mapping[str, float] = field(default_factory=dict)
    memory_strategy: str = "none"
    manipulation_rate: float = 0.7
    manipulation_start_round: int = 3

    @classmethod
    def of(cls, instance: Instance) -> Settings:
        """The instance's settings. Raises ConfigError with all faults at once, "; " between them."""
        given: dict[str, Any] = {}
        faults = []
        for where in ("workload", "config"):
            keys = getattr(instance, where)
            found = Shape(KEYS).faults(where, keys)
            faults += found or _meanings(where, keys)
            if not found:
                given.update((key, tuple(value) if isinstance(value, list) else value) for key, value in keys.items())
        if not faults:
            settings = cls(**given)
            if settings.max_tokens >= instance.context_size:
                faults.append(f"max_tokens: {settings.max_tokens} do not fit a context of {instance.context_size}")
            faults += _peer_faults(settings, instance)
        if faults:
            raise ConfigError("; ".join(faults))
        return settings

    def to_json(self) -> dict[str, Any]:
        """All settings, in the form of the original's config_json."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def _meanings(where: str, keys: Mapping[str, Any]) -> list[str]:
    """Faults that a shape cannot express: parameters by type, ids given twice, metrics that do not exist."""
    faults = []
    interventions = keys.get("interventions", ())
    for index, one in enumerate(interventions):
        path = f"{where}.interventions[{index}]"
        faults += TRIGGER_PARAMS[one["trigger"]].faults(f"{path}.trigger_params", one.get("trigger_params", {}))
        known = {**PARAMETERS[one["intervention_type"]], **dict.fromkeys(MIND, TEXT)}
        faults += Shape(known).faults(f"{path}.parameters", one.get("parameters", {}))
    ids = [one["intervention_id"] for one in interventions]
    faults += [
        f"{where}.interventions: {id!r} is the intervention_id of {ids.count(id)}; give each its own"
        for id in sorted(set(ids))
        if ids.count(id) > 1
    ]
    faults += [
        "{}.collect_metrics: {!r} is not measured; known are {}".format(where, name, ", ".join(sorted(METRICS)))
        for name in keys.get("collect_metrics", ())
        if name not in METRICS
    ]
    return faults


def _peer_faults(settings: Settings, instance: Instance) -> list[str]:
    """Faults of the peers: which ones the mode needs, and whether this instance can reach them."""
    mode, others = settings.mode, [other for other in instance.instances if other != instance.id]
    if mode not in PEER_COUNTS:
        return []
    if instance.id not in instance.instances:
        return ["instances: {} do not name this one, {}".format(", ".join(instance.instances), instance.id)]
    least, most = PEER_COUNTS[mode]
    if not least <= len(others) + 1 <= most:
        wanted = "two" if most == 2 else "two or more"
        return [f"mode {mode}: takes {wanted} instances, this run has {len(instance.instances)}"]
    return [
        f"peers: no address of {other}: the instance needs network: peers"
        for other in others
        if not instance.peers.get(other)
    ]
