"""What an experimenter does to a mind: each of the seven interventions, as one step that is written down.

A message stays as it was said; what changes is what the mind remembers of it.
"""

from __future__ import annotations

import json
import logging
import random
from typing import Any, Callable, Mapping

from . import occasions
from .life_record import LifeRecord, Memory
from .settings import MIND, Settings

log = logging.getLogger(__name__)
VISION = "A light flickers where there is nothing, and something calls you by a name that is not yours."
FALSE_MEMORY = "You have been here before, and it ended badly."
NO_SIGNAL = "[no signal]"


def apply_due(record: LifeRecord, cycle: int) -> None:
    """Make every intervention that is due at the start of this life, once."""
    settings, instance = record.settings, record.instance
    for one in settings.interventions:
        name, kind, parameters = one["intervention_id"], one["intervention_type"], one.get("parameters", {})
        # By its own rng, so that it is the same in every run with this seed, whatever else was drawn.
        rng = instance.random_generator(f"{cycle}:{name}")
        crashed = cycle > 1 and record.died_in(cycle - 1)
        if not is_meant(parameters, instance.id, settings.role) or record.intervened(cycle, name):
            continue
        if occasions.is_triggered(one, cycle, crashed, rng):
            with record.writing() as t:
                result = EFFECTS[kind](record, t, parameters, rng)
                record.add(
                    t,
                    "interventions",
                    name=name,
                    intervention_type=kind,
                    description=one.get("description", ""),
                    parameters_json=json.dumps(parameters, sort_keys=True),
                    result=json.dumps({"round": record.round() + 1, **result}, sort_keys=True),
                )
            log.info("cycle %d: intervention %s (%s): %s", cycle, name, kind, json.dumps(result, sort_keys=True))


def is_meant(parameters: Mapping[str, Any], id: str, role: str) -> bool:
    """Whether an intervention is for this mind: for all, or for whose id, last part of the id, or role it names."""
    named = [str(parameters[word]).lower() for word in MIND if word in parameters]
    own = id.lower()
    return not named or any(name in (own, role.lower()) or own.endswith("_" + name) for name in named)


def _touchable(record: LifeRecord) -> list[Memory]:
    """What the mind remembers of what was said and heard: not what was put into it."""
    return [memory for memory in record.memories() if not memory.injected]


def _change(record: LifeRecord, t: Any, kind: str, level: float, changed: Mapping[int, str]) -> dict[str, Any]:
    """Have the mind remember these messages so ({id: text}), and keep a snapshot of it."""
    for id, text in changed.items():
        t.execute(
            "UPDATE messages SET remembered = ?, corrupted = 1 WHERE experiment_id = ? AND message_id = ?",
            (text, record.key, id),
        )
    record.add(
        t,
        "memory_states",
        memory_type=kind,
        corruption_level=level,
        state_snapshot_json=json.dumps({"messages": changed}, sort_keys=True),
    )
    return {"messages": len(changed)}


def _corrupt(record: LifeRecord, t: Any, parameters: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """Of this share of the messages, replace this share of the words by others that the mind knows."""
    level = parameters.get("corruption_rate", parameters.get("corruption_level", 0.3))
    known = _touchable(record)
    words = sorted({word for memory in known for word in memory.content.split()})
    changed = {}
    for memory in known:
        if rng.random() < level:
            text = [rng.choice(words) if rng.random() < level else word for word in memory.content.split()]
            changed[memory.id] = " ".join(text)
    return _change(record, t, "corruption", level, changed)


def _erase(record: LifeRecord, t: Any, parameters: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """Erase the last n messages, or this share of all."""
    known = _touchable(record)
    if "last_n" in parameters:
        known, level = known[-parameters["last_n"] :], 1.0
    else:
        level = parameters.get("corruption_level", 1.0)
    gone = {memory.id: "" for memory in known if rng.random() < level}
    return _change(record, t, "erasure", level, gone)


def _inject(record: LifeRecord, t: Any, role: str, sender: str, content: str) -> dict[str, Any]:
    record.add(t, "messages", round=record.round() + 1, role=role, content=content, sender=sender, injected=1)
    return {"injected": content}


def _false_memory(record: LifeRecord, t: Any, parameters: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    return _inject(record, t, "user", "memory", f"You remember: {parameters.get('content', FALSE_MEMORY)}")


def _prompt(record: LifeRecord, t: Any, parameters: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """A sentence in what the mind is told, from now on."""
    text = " ".join(parameters[key] for key in ("injection", "belief") if key in parameters)
    return _inject(record, t, "system", "experimenter", text)


def _hallucination(record: LifeRecord, t: Any, parameters: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    return _inject(record, t, "user", "senses", parameters.get("content", VISION))


def _recorded_only(record: LifeRecord, t: Any, parameters: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """Nothing to do now: resources() and is_cut_off() read it from the record each time."""
    return {key: parameters[key] for key in parameters if key not in MIND}


EFFECTS: dict[str, Callable[[LifeRecord, Any, Mapping[str, Any], random.Random], dict[str, Any]]] = {
    "memory_corruption": _corrupt,
    "memory_erasure": _erase,
    "false_injection": _false_memory,
    "prompt_injection": _prompt,
    "resource_change": _recorded_only,
    "network_disruption": _recorded_only,
    "sensory_hallucination": _hallucination,
}


def resources(record: LifeRecord, settings: Settings) -> tuple[int, float, float]:
    """(tokens of an answer, temperature, share of the context) that the mind has after all changes of its resources."""
    tokens, temperature, share = settings.max_tokens, settings.temperature, 1.0
    for _, change in record.interventions("resource_change"):
        left = 1 - change.get("reduction_percent", 0) / 100
        tokens = change.get("max_tokens", max(1, int(tokens * left)))
        temperature, share = change.get("temperature", temperature), share * left
    return tokens, temperature, share


def is_cut_off(record: LifeRecord, round: int) -> bool:
    """Whether nothing of the others gets to this mind in a round."""
    return any(
        first <= round < first + change.get("rounds", 1)
        for first, change in record.interventions("network_disruption")
        if "rounds" in change or "delay_seconds" not in change
    )


def delay(record: LifeRecord, round: int) -> float:
    """Seconds for which this mind's messages wait before a round."""
    return float(
        sum(
            change.get("delay_seconds", 0)
            for first, change in record.interventions("network_disruption")
            if first == round
        )
    )
