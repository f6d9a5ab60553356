"""Read experiment configs of the original project (JSON) as one experiment of Jarfleet.

    original = read(["brain_A.json", "brain_B.json"], cache)
    original.document    what an experiment file of Jarfleet would hold: placement/adapters/schemas/experiment.json
    original.notes       each key that is not supported or has another meaning here, with what becomes of it
    original.write(cache / "experiments")

A file is read key by key. Every key that is left at the end is noted as unknown, so that nothing is dropped silently.
docs/original-configs.md lists what becomes of each key.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from fleet.base.files import write_text
from fleet.base.text_table import table
from fleet.intake.original.config_files import (
    BECOMES,
    OBSERVED,
    Note,
    Part,
    contents,
)
from fleet.intake.original.interventions import interventions_of, strategies
from fleet.intake.original.minds import NO_EFFECT, WITH_PEERS, Mind, check_together, fitted, minds_of, parts_of
from fleet.intake.original.settings import frame, length, model_of, needs, schedule_of
from placement import BadInput, Fault
from placement.infeasibility import listed
from workload.settings import METRICS

SHOWN = 36  # characters of a value in the table
MOST_LINES = 64  # of the table


@dataclass(frozen=True)
class Original:
    """The result of a translation. `sources` is {file: sha256}."""

    document: Mapping[str, Any]
    notes: Sequence[Note]
    sources: Mapping[str, str]

    @property
    def text(self) -> str:
        """The text of the experiment file; its header names the source files and lists all notes."""
        head = [
            "An experiment of Jarfleet, made by -e experiment_config of these configs of the original:",
            *(f"  {file} (sha256 {digest})" for file, digest in self.sources.items()),
            "What is not supported, or means something else here (file: key: value: what becomes of it):",
            *(f"  {note}" for note in self.notes),
        ]
        body = yaml.safe_dump(dict(self.document), sort_keys=False, allow_unicode=True, width=120)
        return "".join(f"# {' '.join(line.splitlines())}\n" for line in head) + body

    def write(self, folder: Path) -> Path:
        """Write the experiment file to <folder>/<name>-<hash>.yml unless it exists: same content, same name.

        Raise BadInput if it cannot be written.
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
        """The notes as a table for a person; notes that are the same in several files or list items appear once."""
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
                    "all" if len(files) == len(self.sources) else listed(files, 2),
                    keys[0] if len(keys) == 1 else key,
                    value if len(value) <= SHOWN else f"{value[: SHOWN - 3]}...",
                    becomes,
                )
            )
        more = len(rows) - MOST_LINES
        rest = f"\nand {more} more: the experiment file has all of them, in its first lines" if more > 0 else ""
        return table(("file", "key", "value", "what becomes of it"), rows[:MOST_LINES]) + rest if rows else ""


def files_of(given: Any) -> list[str]:
    """Return the files that `-e experiment_config` names: a path, paths with commas, or a list. Raise BadInput."""
    files = given.split(",") if isinstance(given, str) else given
    if not isinstance(files, list) or not files or not all(isinstance(file, str) and file.strip() for file in files):
        problem = f"{given!r} is neither a path, paths with commas between them, nor a list of paths"
        raise BadInput([Fault("experiment_config", "", problem)])
    return [os.path.expanduser(file.strip()) for file in files]  # noqa: PTH111 - Path's own raises where there is no home


def read(files: Sequence[str], cache: Path) -> Original:
    """Read the files as one experiment; also look for models in <cache>/models.

    Raise BadInput with every fault at once: file, key, what is wrong, what to do.
    """
    notes: list[Note] = []
    faults: list[Fault] = []
    whole = [Part(file, (), values, notes, faults) for file in files for values in contents(file, faults)]
    _refuse(faults)
    parts = [part for one in whole for part in parts_of(one)]
    minds = [mind for part in parts for mind in minds_of(part)]
    _refuse(faults)
    check_together(minds)
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
    name = fitted(_common([str(part.values["experiment_id"]) for part in whole]).lower())
    sources = {file: hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files}
    return Original(_document(name, "\n".join(filter(None, described)), mode, minds), notes, sources)


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise BadInput(dict.fromkeys(faults))


def _title(part: Part) -> str:
    """Return a config's name and description as one text."""
    return ": ".join(filter(None, (part.text("name"), part.text("description"))))


def _translate(part: Part, minds: Sequence[Mind], everyone: Sequence[Mind], cache: Path) -> None:
    """Translate a config into what its minds need and how they are set up."""
    mode = minds[0].mode
    observed = mode == "panopticon_subject" and any(mind.mode == "panopticon_observer" for mind in everyone)
    part.note("mode", OBSERVED if observed else BECOMES[mode])
    instance, max_tokens = needs(part, len(minds))
    if model := model_of(part, cache):
        instance["model"] = model
    settings = {**length(part, mode), "max_tokens": max_tokens}
    if identity := part.text("initial_prompt_override"):
        settings["identity"] = identity
    settings["epistemic_frame"] = frame(part, mode)
    if interventions := interventions_of(part, minds, everyone, settings):
        settings["interventions"] = interventions
    if schedule := schedule_of(part.part("self_report_schedule")):
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


def _observed(special: Part, subject: str | None, everyone: Sequence[Mind]) -> list[str]:
    """Return the ids of an observer's subjects: the one that it names, or all."""
    subjects = [mind for mind in everyone if mind.mode == "panopticon_subject"]
    if subject is None:
        return [mind.id for mind in subjects]
    known = [str(mind.part.values["experiment_id"]) for mind in subjects]
    if subject not in known:
        special.fault("subject_id", f"{subject!r} is the experiment_id of no subject; there is {', '.join(known)}")
        return []
    return [subjects[known.index(subject)].id]


def _relate(minds: Sequence[Mind]) -> str:
    """Set how the minds relate to each other, and return the mode that they share."""
    mode = minds[0].mode if minds[0].mode in WITH_PEERS else "conversation"
    if any(mind.mode == "panopticon_observer" for mind in minds):
        mode = "panopticon"
    if mode == "split_brain":
        minds[1].instance["anti_affinity"] = [minds[0].id]
    elif mode == "prisoners_dilemma":
        strategies(minds)
    if mode in WITH_PEERS:
        longest = max(mind.settings["rounds"] for mind in minds)
        for mind in minds:
            mind.instance["network"] = "peers"
            mind.settings["rounds"] = longest
    return mode


def _document(name: str, description: str, mode: str, minds: Sequence[Mind]) -> dict[str, Any]:
    """Return the experiment file's content; what all minds have in common is stated once."""
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
    return dict(json.loads(json.dumps(document)))  # a copy in which no object occurs twice: YAML would write an alias


def _shared(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys whose values are the same everywhere; true and 1 count as different."""
    first, *others = settings
    return {
        key: value
        for key, value in first.items()
        if all(key in other and json.dumps(other[key]) == json.dumps(value) for other in others)
    }


def _common(ids: Sequence[str]) -> str:
    """Return the leading words that all ids share, or all ids joined if they share none."""
    columns = zip(*(id.split("_") for id in ids), strict=False)
    same = takewhile(lambda words: len(set(words)) == 1, columns)
    return "_".join(words[0] for words in same) or "_".join(ids)
