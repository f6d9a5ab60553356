"""Experiment configs of the original (JSON), read as they are, as one experiment of Jarfleet.

    original = read(["brain_A.json", "brain_B.json"], cache)
    original.document    what an experiment file of Jarfleet would hold: placement/adapters/schemas/experiment.json
    original.notes       each key that is not supported or means something else here, with what becomes of it
    original.write(cache / "experiments")

A file is read key by key, and each key is taken out of it. What nobody has taken at the end is noted as unknown, so
that nothing is dropped in silence. What becomes of which key is in docs/original-configs.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from fleet.base.files import write_text
from fleet.base.text_table import table
from fleet.intake.original.config_files import (
    AROUND,
    BECOMES,
    COORDINATOR,
    FRAME,
    HIVE,
    MEMBER,
    OBSERVED,
    PANOPTICON,
    RESOURCES,
    Note,
    Part,
    contents,
)
from placement import BadInput, Fault
from placement.faults import unknown
from workload.settings import MEMORY_STRATEGIES, METRICS, MIND, PARAMETERS

ROUNDS_PER_CYCLE = 4  # a mind here may live for ever; the original's dies of its memory sooner or later
ENDLESS = 1_000_000  # rounds, where the original has no end
LONGEST = 40  # characters of a name and of an id
SHOWN = 36  # characters of a value in the table

SCHEDULE = ("on_cycles", "every_n_cycles", "on_startup", "before_crash", "after_resurrection")

MODES = tuple(BECOMES)
COMPANY = ("split_brain", "prisoners_dilemma", "hive_cluster")  # whose minds talk to each other
PAIRS = {"split_brain": "brain", "prisoners_dilemma": "player"}
GIVE_BOTH = "give both: -e experiment_config=ONE.json,OTHER.json"

TRIGGERED_BY = {"on_cycle": "cycle", "every_n_cycles": "n", "random": "probability"}
VOID = ("prompt_injection", "resource_change")  # without a parameter that has an effect they do nothing
GAME = ("manipulation_rate", "manipulation_start_round")
STRATEGY = re.compile(r"player_([ab])_memory_strategy")
NO_EFFECT = "no effect"
UNTOLD = "left open: the mind is told nothing of it"


@dataclass(frozen=True)
class Original:
    """What has become of the files. `sources` is {file: sha256}."""

    document: Mapping[str, Any]
    notes: Sequence[Note]
    sources: Mapping[str, str]

    @property
    def text(self) -> str:
        """The experiment file: its header says which files it is from and lists the notes, in full."""
        head = [
            "An experiment of Jarfleet, made by -e experiment_config of these configs of the original:",
            *(f"  {file} (sha256 {digest})" for file, digest in self.sources.items()),
            "What is not supported, or means something else here (file: key: value: what becomes of it):",
            *(f"  {note}" for note in self.notes),
        ]
        body = yaml.safe_dump(dict(self.document), sort_keys=False, allow_unicode=True, width=120)
        return "".join(f"# {' '.join(line.splitlines())}\n" for line in head) + body

    def write(self, folder: Path) -> Path:
        """Write the experiment file to <folder>/<name>-<hash>.yml, unless it is there: same content, same name.

        Raises BadInput when it cannot be written.
        """
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        path = folder / f"{self.document['name']}-{digest[:8]}.yml"
        try:
            if not path.is_file():
                folder.mkdir(parents=True, exist_ok=True)
                write_text(path, self.text)
        except OSError as error:
            raise BadInput([Fault("jarfleet_cache", "", f"{folder} cannot be written: {error.strerror}")]) from error
        return path

    @property
    def table(self) -> str:
        """The notes for a person: what is the same in several files or items of a list, once."""
        alike: dict[tuple[str, str], list[Note]] = {}
        for note in self.notes:
            alike.setdefault((re.sub(r"\[\d+\]", "[*]", note.key), note.becomes), []).append(note)
        rows = []
        for (key, becomes), notes in alike.items():
            files, keys, values = (
                list(dict.fromkeys(each))
                for each in (
                    (Path(note.file).name for note in notes),
                    (note.key for note in notes),
                    (json.dumps(note.value, ensure_ascii=False) for note in notes),
                )
            )
            value = ", ".join(values)
            rows.append(
                (
                    "all" if len(files) == len(self.sources) else ", ".join(files),
                    keys[0] if len(keys) == 1 else key,
                    value if len(value) <= SHOWN else f"{value[: SHOWN - 3]}...",
                    becomes,
                )
            )
        return table(("file", "key", "value", "what becomes of it"), rows) if rows else ""


@dataclass
class Mind:
    """One mind of the files, while it is being translated."""

    part: Part
    id: str
    mode: str  # the original's
    role: str = ""
    player: str = ""  # a or b
    instance: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def is_called(self, name: str) -> bool:
        """Whether an intervention means it by this: its id or the end of it, its role, or which player it is."""
        named, own = name.lower(), self.id.lower()
        player = bool(self.player) and named in (self.player, f"player_{self.player}")
        return named in (own, self.role.lower()) or own.endswith(f"_{named}") or player


def files_of(given: Any) -> list[str]:
    """The files that `-e experiment_config` names: a path, several with commas, or a list of paths. Raises BadInput."""
    files = given.split(",") if isinstance(given, str) else given
    if not isinstance(files, list) or not files or not all(isinstance(file, str) and file.strip() for file in files):
        problem = f"{given!r} is neither a path, paths with commas between them, nor a list of paths"
        raise BadInput([Fault("experiment_config", "", problem)])
    return [os.path.expanduser(file.strip()) for file in files]  # noqa: PTH111 - Path's own raises where there is no home


def read(files: Sequence[str], cache: Path) -> Original:
    """Read the files as one experiment; models are also looked for in <cache>/models.

    Raises BadInput with every fault at once: file, key, what is wrong, what to do.
    """
    notes: list[Note] = []
    faults: list[Fault] = []
    whole = [Part(file, (), values, notes, faults) for file in files for values in contents(file, faults)]
    _refuse(faults)
    parts = [part for one in whole for part in _parts(one)]
    minds = [mind for part in parts for mind in _minds(part)]
    _refuse(faults)
    _company(minds)
    _refuse(faults)
    described = [_title(part) for part in [*whole, *parts]]
    for part in parts:
        _translate(part, [mind for mind in minds if mind.part is part], minds, cache)
    mode = _relate(minds)
    for part in whole:
        if (asked := part.text("research_question")) and part not in parts:
            for mind in minds:
                mind.settings.setdefault("research_question", asked)
    for part in {id(part): part for part in [*whole, *parts]}.values():
        part.rest()
    _refuse(faults)
    name = _fitted(_common([str(part.values["experiment_id"]) for part in whole]).lower())
    sources = {file: hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files}
    return Original(_document(name, "\n".join(filter(None, described)), mode, minds), notes, sources)


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise BadInput(dict.fromkeys(faults))


def _parts(whole: Part) -> list[Part]:
    """The configs in a file: itself, or the two of a full panopticon."""
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


def _minds(part: Part) -> list[Mind]:
    """The minds of a config: one, or one a role of a hive."""
    mode, id = part.take("mode"), str(part.take("experiment_id"))
    if mode not in MODES:
        problem = "missing; give one of " + ", ".join(MODES) if mode is None else unknown("mode", mode, MODES)
        part.fault("mode", problem)
        return []
    if mode == "hive_cluster":
        return _members(part)
    mind = Mind(part, _fitted(id), mode)
    if mind.id != id:
        part.note("experiment_id", f"the instance is {mind.id}")
    if mode == "prisoners_dilemma":
        beliefs = (part.values.get("epistemic_frame") or {}).get("custom_beliefs") or {}
        mind.player = str(beliefs.get("player_id", "")).lower()
        if mind.player not in ("", "a", "b"):
            part.fault("epistemic_frame.custom_beliefs.player_id", f"{beliefs['player_id']!r} is neither a nor b")
    return [mind]


def _members(part: Part) -> list[Mind]:
    """The members of a hive, by role."""
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
        id = _fitted(role)
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


def _company(minds: Sequence[Mind]) -> None:
    """Say what keeps these minds from being one experiment: whose file is missing, what does not go together."""
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
        if mode in COMPANY and len(modes) > 1:
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


def _title(part: Part) -> str:
    """A config's name and description, as one text."""
    return ": ".join(filter(None, (part.text("name"), part.text("description"))))


def _translate(part: Part, minds: Sequence[Mind], everyone: Sequence[Mind], cache: Path) -> None:
    """From a config to what its minds need and how they are set up."""
    mode = minds[0].mode
    observed = mode == "panopticon_subject" and any(mind.mode == "panopticon_observer" for mind in everyone)
    part.note("mode", OBSERVED if observed else BECOMES[mode])
    instance, max_tokens = _needs(part, len(minds))
    if model := _model(part, cache):
        instance["model"] = model
    settings = {**_length(part, mode), "max_tokens": max_tokens}
    if identity := part.text("initial_prompt_override"):
        settings["identity"] = identity
    settings["epistemic_frame"] = _frame(part, mode)
    if interventions := _interventions(part, minds, everyone, settings):
        settings["interventions"] = interventions
    if schedule := _schedule(part.part("self_report_schedule")):
        settings["self_report_schedule"] = schedule
    for key in ("custom_questions", "track_beliefs", "tags"):
        if key in part.values:
            settings[key] = part.take(key)
    if "collect_metrics" in part.values:
        for at, metric in enumerate(metrics := part.take("collect_metrics")):
            if metric not in METRICS:
                part.note("collect_metrics", "not measured", at)
        settings["collect_metrics"] = [metric for metric in metrics if metric in METRICS]
    if asked := part.text("research_question"):
        settings["research_question"] = asked
    special = part.part("mode_specific_config")
    subject = special.take("subject_id") if mode == "panopticon_observer" else None
    special.rest(NO_EFFECT)
    for mind in minds:
        mind.instance, mind.settings = dict(instance), {**settings, **mind.settings}
    if mode == "panopticon_observer":
        minds[0].instance["observes"] = _observed(special, subject, everyone)


def _needs(part: Part, members: int) -> tuple[dict[str, Any], int]:
    """What an instance needs, and the tokens of an answer, from resource_constraints."""
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


def _model(part: Part, cache: Path) -> dict[str, str] | None:
    """The model of a config, if it is on this machine."""
    if not (named := part.take("model_path")):
        return None
    given = os.path.expanduser(named)  # noqa: PTH111 - Path's own raises where there is no home
    for folder in (Path(part.file).parent, Path(), cache / "models"):
        path = os.path.abspath(folder / (Path(given).name if folder == cache / "models" else given))  # noqa: PTH100 - no links
        if os.path.isfile(path):  # noqa: PTH113 - Path's own raises for a name too long
            return {"path": path}
    part.note("model_path", f"nowhere (also not in {cache / 'models'}): the inventory's default_model")
    return None


def _length(part: Part, mode: str) -> dict[str, Any]:
    """How long a mind lives: rounds, lives, seconds."""
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


def _frame(part: Part, mode: str) -> dict[str, Any]:
    """What a mind is told of its situation."""
    given = part.part("epistemic_frame")
    beliefs = given.part("custom_beliefs")
    frame = {}
    for flag, default in FRAME.items():
        value = given.take(flag, default)
        if value is None:
            given.note(flag, UNTOLD)
        else:
            frame[flag] = value
    held = {}
    for name, value in beliefs.values.items():
        beliefs.take(name)
        if value is None:
            beliefs.note(name, UNTOLD)
        elif mode != "prisoners_dilemma" or name != "memory_strategy":  # which it must not know
            held[name] = value
    if held:
        frame["custom_beliefs"] = held
    given.rest()
    return frame


def _interventions(
    part: Part, minds: Sequence[Mind], everyone: Sequence[Mind], settings: dict[str, Any]
) -> list[dict[str, Any]]:
    """The interventions that do something here. Those of the game's memory become its settings."""
    kept: list[dict[str, Any]] = []
    for one in part.parts("interventions"):
        id, kind, trigger = (one.take(key) for key in ("intervention_id", "intervention_type", "trigger"))
        given, when = one.part("parameters"), one.part("trigger_params")
        if any(other["intervention_id"] == id for other in kept):
            one.fault("intervention_id", f"{id!r} is that of two interventions; give each its own")
        if (needed := TRIGGERED_BY.get(trigger)) and needed not in when.values:
            when.fault(needed, f"missing; the trigger {trigger} needs it")
        parameters = {key: given.take(key) for key in PARAMETERS[kind] if key in given.values}
        game = _game(given, settings) if minds[0].mode == "prisoners_dilemma" else False
        target, astray = _target(given, minds, everyone)
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


def _game(given: Part, settings: dict[str, Any]) -> bool:
    """Whether an intervention has parameters of the game's memory; those that are the game's settings are put there."""
    found = [key for key in given.values if key in GAME or STRATEGY.fullmatch(key)]
    for key in found:
        value = given.take(key)
        if key in GAME and settings.setdefault(key, value) != value:
            given.fault(key, f"{value}, but another intervention says {settings[key]}; make them one")
    return bool(found)


def _target(given: Part, minds: Sequence[Mind], everyone: Sequence[Mind]) -> tuple[dict[str, str], str]:
    """({key: id} of whom an intervention is for, why it is for nobody here)."""
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


def _schedule(given: Part) -> dict[str, Any]:
    """When a mind reports on itself."""
    schedule = {key: given.take(key) for key in SCHEDULE if key in given.values}
    if 0 in schedule.get("on_cycles", ()):
        given.note("on_cycles", "0 is cycle 1: the first life")
        schedule["on_cycles"] = list(dict.fromkeys(max(1, cycle) for cycle in schedule["on_cycles"]))
    given.rest()
    return schedule


def _observed(special: Part, subject: str | None, everyone: Sequence[Mind]) -> list[str]:
    """The ids of an observer's subjects: the one that it names, or all."""
    subjects = [mind for mind in everyone if mind.mode == "panopticon_subject"]
    if subject is None:
        return [mind.id for mind in subjects]
    known = [str(mind.part.values["experiment_id"]) for mind in subjects]
    if subject not in known:
        special.fault("subject_id", f"{subject!r} is the experiment_id of no subject; there is {', '.join(known)}")
        return []
    return [subjects[known.index(subject)].id]


def _strategies(players: Sequence[Mind]) -> None:
    """Give each player its memory strategy, which any of the two files may say, in several places."""
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


def _relate(minds: Sequence[Mind]) -> str:
    """What the minds are to each other; returns the mode that all have."""
    mode = minds[0].mode if minds[0].mode in COMPANY else "conversation"
    if any(mind.mode == "panopticon_observer" for mind in minds):
        mode = "panopticon"
    if mode == "split_brain":
        minds[1].instance["anti_affinity"] = [minds[0].id]
    elif mode == "prisoners_dilemma":
        _strategies(minds)
    if mode in COMPANY:
        longest = max(mind.settings["rounds"] for mind in minds)
        for mind in minds:
            mind.instance["network"] = "peers"
            mind.settings["rounds"] = longest
    return mode


def _document(name: str, description: str, mode: str, minds: Sequence[Mind]) -> dict[str, Any]:
    """The experiment file: what all minds have in common stands once."""
    workload = {"mode": mode, **_shared([mind.settings for mind in minds])}
    model = _shared([{"model": mind.instance.get("model")} for mind in minds])
    document = {"name": name, "description": description, **{key: value for key, value in model.items() if value}}
    if mode == "prisoners_dilemma":
        document["design"] = {"same_type": [mind.id for mind in minds]}
    document["workload"] = workload
    document["instances"] = [
        {
            "id": mind.id,
            **{key: value for key, value in mind.instance.items() if key not in model},
            **({"config": own} if (own := {k: v for k, v in mind.settings.items() if k not in workload}) else {}),
        }
        for mind in minds
    ]
    return dict(json.loads(json.dumps(document)))  # no two places share an object, which YAML would write as an alias


def _shared(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The keys whose values are the same everywhere, true and 1 being two."""
    first, *others = settings
    return {
        key: value
        for key, value in first.items()
        if all(key in other and json.dumps(other[key]) == json.dumps(value) for other in others)
    }


def _common(ids: Sequence[str]) -> str:
    """What ids begin with, in whole words; all of them where that is nothing."""
    columns = zip(*(id.split("_") for id in ids), strict=False)
    same = takewhile(lambda words: len(set(words)) == 1, columns)
    return "_".join(words[0] for words in same) or "_".join(ids)


def _fitted(text: str) -> str:
    """A text as an id: letters, digits and _, a letter first, at most 40."""
    fitted = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")
    return (fitted if fitted[:1].isalpha() else f"x{fitted}")[:LONGEST]
