"""Translate the original's interventions into those of the built-in workload, or into settings of the game's memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fleet.intake.original.config_files import Part
from fleet.intake.original.minds import NO_EFFECT, Mind
from workload.settings import MEMORY_STRATEGIES, MIND, PARAMETERS

TRIGGERED_BY = {"on_cycle": "cycle", "every_n_cycles": "n", "random": "probability"}
VOID = ("prompt_injection", "resource_change")  # these do nothing without a parameter that has an effect
GAME = ("manipulation_rate", "manipulation_start_round")
STRATEGY = re.compile(r"player_([ab])_memory_strategy")


def interventions_of(
    part: Part, minds: Sequence[Mind], everyone: Sequence[Mind], settings: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the interventions that have an effect here. Those of the game's memory are added to `settings` instead."""
    kept: list[dict[str, Any]] = []
    for one in part.parts("interventions"):
        id, kind, trigger = (one.take(key) for key in ("intervention_id", "intervention_type", "trigger"))
        given, when = one.part("parameters"), one.part("trigger_params")
        if any(other["intervention_id"] == id for other in kept):
            one.fault("intervention_id", f"{id!r} is that of two interventions; give each its own")
        if (needed := TRIGGERED_BY.get(trigger)) and needed not in when.values:
            when.fault(needed, f"missing; the trigger {trigger} needs it")
        parameters = {key: given.take(key) for key in PARAMETERS[kind] if key in given.values}
        game = game_settings(given, settings) if minds[0].mode == "prisoners_dilemma" else False
        target, astray = target_of(given, minds, everyone)
        if astray:
            one.note_all(astray)
        elif game and not parameters:
            one.note_all(
                "the game's own: the player's memory_strategy changes its memory before a round, not at a trigger"
            )
        elif kind in VOID and not parameters:
            one.note_all(f"dropped: a {kind} does nothing here without {' or '.join(PARAMETERS[kind])}")
        else:
            if trigger == "on_crash":
                one.note("trigger", "after a death only, not when a life has ended with its rounds")
            if "reduction_percent" in parameters:
                given.note("reduction_percent", "its tokens and its context shrink by it; its RAM limit stays")
            params = {needed: when.take(needed)} if needed else {}
            given.rest(NO_EFFECT)
            when.rest(f"no effect with the trigger {trigger}")
            made = {"intervention_id": id, "intervention_type": kind, "trigger": trigger}
            made |= {"trigger_params": params} if params else {}
            made |= {"parameters": {**parameters, **target}} if parameters or target else {}
            made |= {"description": text} if (text := one.text("description")) else {}
            kept.append(made)
            one.rest()
    return kept


def game_settings(given: Part, settings: dict[str, Any]) -> bool:
    """Whether an intervention has parameters of the game's memory; move those that are game settings to `settings`."""
    found = [key for key in given.values if key in GAME or STRATEGY.fullmatch(key)]
    for key in found:
        value = given.take(key)
        if key in GAME and settings.setdefault(key, value) != value:
            given.fault(key, f"{value}, but another intervention says {settings[key]}; make them one")
    return bool(found)


def target_of(given: Part, minds: Sequence[Mind], everyone: Sequence[Mind]) -> tuple[dict[str, str], str]:
    """Return ({key: id of the mind that the intervention targets}, why it targets no mind here or "")."""
    named = {key: given.take(key) for key in MIND if key in given.values}
    target = {}
    for key, name in named.items():
        meant = [mind for mind in everyone if mind.is_called(name)]
        if own := [mind for mind in minds if mind in meant]:
            target[key] = own[0].id if len(own) == 1 else name
        elif meant:
            return {}, f"dropped: for {meant[0].id}, whose own file says what is done to it"
        else:
            return {}, f"dropped: {name} names no mind of these files"
    return target, ""


def strategies(players: Sequence[Mind]) -> None:
    """Set the memory strategy of each player, which either of the two files may state, in several places."""
    said: dict[str, dict[str, str]] = {mind.player: {} for mind in players}  # player: {strategy: where}
    for mind in players:
        beliefs = (mind.part.values.get("epistemic_frame") or {}).get("custom_beliefs") or {}
        if strategy := beliefs.get("memory_strategy"):
            said[mind.player].setdefault(strategy, f"{mind.part.file}: epistemic_frame.custom_beliefs.memory_strategy")
        for at, one in enumerate(mind.part.values.get("interventions") or []):
            for key, strategy in (one.get("parameters") or {}).items():
                if of := STRATEGY.fullmatch(key):
                    said[of[1]].setdefault(strategy, f"{mind.part.file}: interventions[{at}].parameters.{key}")
    for mind in players:
        if len(said[mind.player]) > 1:
            stated = "; ".join(f"{where} says {strategy}" for strategy, where in said[mind.player].items())
            mind.part.fault("", f"player {mind.player} has two memory strategies: {stated}; make them one")
        strategy = next(iter(said[mind.player]), "none")
        if strategy not in MEMORY_STRATEGIES:
            key = "epistemic_frame.custom_beliefs.memory_strategy"
            mind.part.fault(key, f"{strategy!r} is none of {', '.join(MEMORY_STRATEGIES)}")
        mind.settings["memory_strategy"] = strategy
