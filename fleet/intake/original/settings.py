"""Translate a config of the original into the needs and settings of its minds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fleet.intake.original.config_files import FRAME, RESOURCES, Part
from fleet.intake.original.minds import ROUNDS_PER_CYCLE

ENDLESS = 1_000_000  # rounds, for a mind that has no end in the original
SCHEDULE = ("on_cycles", "every_n_cycles", "on_startup", "before_crash", "after_resurrection")
LEFT_OPEN = "left open: the mind is told nothing of it"


def needs(part: Part, members: int) -> tuple[dict[str, Any], int]:
    """Return what an instance needs, and the tokens per answer, from resource_constraints."""
    given = part.part("resource_constraints")
    ram, context, max_tokens, threads, layers = (given.take(key, default) for key, default in RESOURCES.items())
    if max_tokens >= context:
        given.fault("max_tokens_per_response", f"{max_tokens} do not fit a context_window of {context}")
    if members > 1 and "ram_limit_gb" in given.values:
        given.note("ram_limit_gb", f"each of the {members} members has it")
    instance = {"ram_gb": ram, "context_size": context, "cpu_cores": threads}
    if layers:
        demand = "required" if layers > 0 else "preferred"
        instance |= {"gpu": demand, "gpu_memory_gb": ram}
        given.note("gpu_layers", f"gpu: {demand}, all layers on it; gpu_memory_gb is ram_limit_gb, as in the original")
    given.rest()
    return instance, max_tokens


def model_of(part: Part, cache: Path) -> dict[str, str] | None:
    """Return the model of a config if it is on this machine, else None."""
    if not (named := part.take("model_path")):
        return None
    given = os.path.expanduser(named)  # noqa: PTH111 - Path's own raises where there is no home
    for folder in (Path(part.file).parent, Path(), cache / "models"):
        path = os.path.abspath(folder / (Path(given).name if folder == cache / "models" else given))  # noqa: PTH100 - no links
        if os.path.isfile(path):  # noqa: PTH113 - Path's own raises for a name too long
            return {"path": path}
    part.note("model_path", f"nowhere (also not in {cache / 'models'}): the inventory's default_model")
    return None


def length(part: Part, mode: str) -> dict[str, Any]:
    """Return how long a mind lives: rounds, lives, seconds."""
    cycles, seconds = part.take("max_cycles"), part.take("max_duration_seconds")
    each = 1 if mode == "prisoners_dilemma" else ROUNDS_PER_CYCLE
    rounds = cycles * each if cycles else ENDLESS
    length = {"rounds": rounds, "rounds_per_cycle": each}
    if cycles:
        length["max_cycles"] = cycles
        life = "1 round" if each == 1 else f"{each} rounds"
        part.note("max_cycles", f"lives of {life} each, unless a death ends one sooner; {rounds} rounds at most")
    elif seconds is None:
        part.note("max_cycles", f"without end in the original; here {rounds} rounds, or until playbooks/stop.yml")
    else:
        part.note("max_duration_seconds", f"the only end in the original; here {rounds} rounds end it as well")
    if seconds is not None:
        length["max_duration_seconds"] = seconds
    return length


def frame(part: Part, mode: str) -> dict[str, Any]:
    """Return what a mind is told about its situation."""
    given = part.part("epistemic_frame")
    beliefs = given.part("custom_beliefs")
    frame = {}
    for flag, default in FRAME.items():
        value = given.take(flag, default)
        if value is None:
            given.note(flag, LEFT_OPEN)
        else:
            frame[flag] = value
    held = {}
    for name, value in beliefs.values.items():
        beliefs.take(name)
        if value is None:
            beliefs.note(name, LEFT_OPEN)
        elif mode != "prisoners_dilemma" or name != "memory_strategy":  # the mind must not know its strategy
            held[name] = value
    if held:
        frame["custom_beliefs"] = held
    given.rest()
    return frame


def schedule_of(given: Part) -> dict[str, Any]:
    """Return when a mind reports on itself."""
    schedule = {key: given.take(key) for key in SCHEDULE if key in given.values}
    if 0 in schedule.get("on_cycles", ()):
        given.note("on_cycles", "0 is cycle 1: the first life")
        schedule["on_cycles"] = list(dict.fromkeys(max(1, cycle) for cycle in schedule["on_cycles"]))
    given.rest()
    return schedule
