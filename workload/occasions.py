"""When something is due: the triggers of interventions, and the schedule of self-reports. Cycles count from 1.

Cycle 0, with which the original begins, is the start of cycle 1 here.
"""

from __future__ import annotations

import random
from typing import Any, Mapping


def is_triggered(intervention: Mapping[str, Any], cycle: int, crashed: bool, rng: random.Random) -> bool:
    """Whether an intervention is due at the start of this life; `crashed`: the one before was cut short."""
    params = intervention.get("trigger_params", {})
    trigger = intervention["trigger"]
    if trigger == "on_cycle":
        return bool(max(1, params["cycle"]) == cycle)
    if trigger == "every_n_cycles":
        return bool(cycle % params["n"] == 0)
    if trigger == "random":
        return bool(rng.random() < params["probability"])
    return cycle > 1 and (crashed or trigger == "on_resurrection")


def at_start(schedule: Mapping[str, Any], cycle: int) -> str:
    """The occasion of a self-report at the start of a life; empty when none is due."""
    if cycle == 1:
        return "startup" if schedule.get("on_startup", True) else ""
    return "resurrection" if schedule.get("after_resurrection", True) else ""


def in_cycle(schedule: Mapping[str, Any], cycle: int) -> str:
    """The occasion of a self-report within a life, after its first round; empty when none is due."""
    every = schedule.get("every_n_cycles")
    due = cycle in schedule.get("on_cycles", ()) or (every and cycle % every == 0)
    return "scheduled" if due else ""


def before_end(schedule: Mapping[str, Any]) -> str:
    """The occasion of a self-report when a life is about to end; empty when none is asked for."""
    return "before_crash" if schedule.get("before_crash", False) else ""
