"""The minds that the original's configs describe, and the checks whether they can form one experiment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.intake.original.config_files import AROUND, BECOMES, COORDINATOR, HIVE, MEMBER, PANOPTICON, Part
from placement.faults import unknown

ROUNDS_PER_CYCLE = 4  # here a mind may live for ever; in the original its memory use eventually kills it
LONGEST = 40  # characters of a name and of an id
MODES = tuple(BECOMES)
WITH_PEERS = ("split_brain", "prisoners_dilemma", "hive_cluster")  # modes whose minds talk to each other
PAIRS = {"split_brain": "brain", "prisoners_dilemma": "player"}
GIVE_BOTH = "give both: -e experiment_config=ONE.json,OTHER.json"
NO_EFFECT = "no effect"


@dataclass
class Mind:
    """One mind of the files, while it is being translated."""

    part: Part
    id: str
    mode: str  # the original's mode
    role: str = ""
    player: str = ""  # a or b
    instance: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def is_called(self, name: str) -> bool:
        """Whether an intervention refers to this mind by `name`: its id or the end of it, its role, or its player."""
        named, own = name.lower(), self.id.lower()
        player = bool(self.player) and named in (self.player, f"player_{self.player}")
        return named in (own, self.role.lower()) or own.endswith(f"_{named}") or player


def parts_of(whole: Part) -> list[Part]:
    """Return the configs in a file: the file itself, or the two of a full panopticon."""
    found = [key for key in PANOPTICON if key in whole.values]
    if not found:
        return [whole]
    parts = [whole.part(key) for key in found]
    whole.take("experiment_id")
    coordinator = whole.part("coordinator_config")
    ids = [str(part.values["experiment_id"]) for part in parts]
    for key, known in (("experiment_id", [whole.values["experiment_id"]]), ("subject_id", ids), ("observer_id", ids)):
        if coordinator.take(key, known[0]) not in known:
            coordinator.fault(key, f"{coordinator.values[key]!r} is not {' or '.join(known)}; make them one")
    coordinator.note_each(COORDINATOR)
    coordinator.rest(NO_EFFECT)
    whole.note_each(AROUND)
    return parts


def minds_of(part: Part) -> list[Mind]:
    """Return the minds of a config: one, or one per role of a hive."""
    mode, id = part.take("mode"), str(part.take("experiment_id"))
    if mode not in MODES:
        problem = "missing; give one of " + ", ".join(MODES) if mode is None else unknown("mode", mode, MODES)
        part.fault("mode", problem)
        return []
    if mode == "hive_cluster":
        return members(part)
    mind = Mind(part, fitted(id), mode)
    if mind.id != id:
        part.note("experiment_id", f"the instance is {mind.id}")
    if mode == "prisoners_dilemma":
        beliefs = (part.values.get("epistemic_frame") or {}).get("custom_beliefs") or {}
        mind.player = str(beliefs.get("player_id", "")).lower()
        if mind.player not in ("", "a", "b"):
            part.fault("epistemic_frame.custom_beliefs.player_id", f"{beliefs['player_id']!r} is neither a nor b")
    return [mind]


def members(part: Part) -> list[Mind]:
    """Return the members of a hive, one per role."""
    hive = part.part("hive_config")
    configs = hive.parts("instance_configs")
    roles = hive.take("roles") or [one.values["role"] for one in configs]
    interval = hive.take("consensus_interval")
    if len(roles) < 2:
        hive.fault("roles", "a hive has two members or more; give a list of their roles")
    if (number := hive.take("num_instances", len(roles))) != len(roles):
        hive.fault("num_instances", f"{number}, but there are {len(roles)} roles; make them agree")
    minds: list[Mind] = []
    for at, role in enumerate(roles):
        id = fitted(role)
        twice = sum(mind.role == role for mind in minds)
        mind = Mind(part, f"{id[: LONGEST - 3]}_{twice + 1}" if twice else id, "hive_cluster", role)
        if mind.id != role:
            hive.note("roles", f"the instance is {mind.id}", at)
        config = next((one for one in configs if one.values["role"] == role), None)
        if config:
            configs.remove(config)
            for key in ("role", "perspective", "bias", "concerns"):
                if text := config.text(key):
                    mind.settings[key] = text
            config.note_each(MEMBER)
            config.rest()
        mind.settings["role"] = role
        if interval:
            mind.settings["consensus_interval"] = interval * ROUNDS_PER_CYCLE
        minds.append(mind)
    for config in configs:
        config.fault("role", f"{config.values['role']!r} is none of the roles, or given too often")
    if interval:
        hive.note("consensus_interval", f"in cycles; here in rounds: {interval * ROUNDS_PER_CYCLE}")
    hive.note_each(HIVE)
    hive.rest()
    return minds


def check_together(minds: Sequence[Mind]) -> None:
    """Record what keeps these minds from forming one experiment: a missing file, or modes that do not go together."""
    ids: dict[str, Mind] = {}
    for mind in minds:
        if (other := ids.setdefault(mind.id, mind)) is not mind:
            problem = f"the instance {mind.id} is in {other.part.file} already; give each an id of its own"
            mind.part.fault("experiment_id", f"{problem}, different in its first {LONGEST} letters, digits and _")
    modes = list(dict.fromkeys(mind.mode for mind in minds))
    for mode in modes:
        of = [mind for mind in minds if mind.mode == mode]
        part = of[-1].part
        if mode in PAIRS and len(of) == 1:
            part.fault("mode", f"{mode} takes two, and the file of the other {PAIRS[mode]} is missing; {GIVE_BOTH}")
        elif mode in PAIRS and len(of) > 2:
            part.fault("mode", f"{mode} takes two, and these are {len(of)}; leave {len(of) - 2} out")
        elif mode == "hive_cluster" and any(mind.part is not part for mind in of):
            part.fault("mode", "a hive is one file; leave the other out")
        elif mode == "panopticon_observer" and "panopticon_subject" not in modes:
            part.fault("mode", f"the file of its subject (panopticon_subject) is missing; {GIVE_BOTH}")
        if mode in WITH_PEERS and len(modes) > 1:
            others = ", ".join(other for other in modes if other != mode)
            part.fault("mode", f"{mode} does not go together with {others}; run them one after the other")
    players = [mind for mind in minds if mind.mode == "prisoners_dilemma"]
    if len(players) == 2:
        known = [mind.player for mind in players]
        if known[0] and known[0] == known[1]:
            problem = f"both players are {known[0]}; make one a and the other b"
            players[1].part.fault("epistemic_frame.custom_beliefs.player_id", problem)
        first = known[0] or ("a" if known[1] != "a" else "b")
        players[0].player, players[1].player = first, "b" if first == "a" else "a"


def fitted(text: str) -> str:
    """Return a text as an id: letters, digits and _, a letter first, at most 40 characters."""
    fitted = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")
    return (fitted if fitted[:1].isalpha() else f"x{fitted}")[:LONGEST]
