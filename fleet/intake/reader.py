"""Read what the user gave - variables, files, configs of the original, a saved plan - into one typed request.

This module decides which input counts if several could, and which inputs contradict each other.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from contract.json_records import Record, shown
from fleet.artifacts.models import origin, resolve
from fleet.artifacts.releases import WORKLOAD, Release, stage
from fleet.base.errors import ModelError, PlanFileError, ReleaseError
from fleet.intake.original.translate import Original, files_of
from fleet.intake.original.translate import read as read_original
from fleet.intake.overrides import overridden, overrides_of
from fleet.intake.request import ModelRef, ReleaseRef, Request, SavedRef
from fleet.intake.saved_plan import SavedPlan, read_plan, reference
from fleet.intake.secret_faults import secret_faults
from fleet.intake.sizes import estimate_table
from fleet.intake.travel import travel_table, travel_warnings
from fleet.intake.typed_variables import typed_faults
from fleet.intake.workload_settings import workload_faults
from fleet.observe.cluster import Cluster
from placement import (
    BadInput,
    Experiment,
    Fault,
    Options,
    find_experiment,
    nodes_from_hostvars,
    parse_experiment,
    parse_pins,
    parse_why,
    why_faults,
)
from placement.adapters import gguf_memory
from placement.adapters.experiment import read_text
from placement.options import EXTRA_VARS

T = TypeVar("T")
ARTICLES = "which has decided it; leave one out"


@dataclass(frozen=True)
class Given:
    """What the user gave, under the names of the `-e` variables; "" or empty: not given."""

    experiment: str = ""
    experiment_config: Any = ""
    plan: str = ""
    placement: Any = ""
    strategy: str = ""
    placement_time_limit: Any = ""
    placement_seed: Any = ""
    repeat: Any = ""
    why: Any = ""
    experiment_code_src: str = ""
    experiment_code_ref: str = ""
    experiment_command: Any = ()
    experiment_secrets: tuple[str, ...] = ()  # their names
    workload: Any = ""  # settings that replace the file's
    extra_vars: tuple[str, ...] = ()  # as typed: if a variable is given twice, Ansible keeps only the last

    def has(self, name: str) -> bool:
        """Whether a variable was given."""
        return getattr(self, name) not in (None, "", [], (), {})


# What a saved plan has decided; RECORDED adds what a recorded run has decided as well.
PLANNED = ("placement", EXTRA_VARS.strategy, EXTRA_VARS.time_limit, EXTRA_VARS.seed, EXTRA_VARS.repeat, "why")
RECORDED = (
    *PLANNED,
    "experiment",
    "experiment_config",
    "plan",
    "experiment_code_src",
    "experiment_code_ref",
    "experiment_command",
    "workload",
)


# Every variable that may be given with -e where an experiment is: those above, and what other roles read.
VARIABLES = (
    *(field.name for field in fields(Given) if field.name != "extra_vars"),
    *("plan_out", "detach", "monitor_duration", "instance_start_timeout", "node_memory_percent", "node_disk_percent"),
    *("default_model", "accept_weaker_isolation", "runs_dir", "jarfleet_cache", "manifest_signing_key"),
    *("manifest_allowed_signers", "run", "runs", "instance", "follow", "lines"),
)


@dataclass(frozen=True)
class Places:
    """The folders of the project's clone and of the controller's cache."""

    project: Path
    cache: Path

    @property
    def experiments(self) -> Path:
        """The folder in which an experiment's name is looked up."""
        return self.project / "experiments"

    @property
    def packages(self) -> tuple[Path, ...]:
        """The project's own packages that every node needs."""
        return self.project / "contract", self.project / "workload"


@dataclass(frozen=True)
class Intake(Record):
    """A request with the text to show to a person. notes: what becomes of keys of the original's configs."""

    request: Request
    table: str = ""
    notes: tuple[Any, ...] = ()
    warnings: tuple[str, ...] = ()


def read_request(
    given: Given,
    places: Places,
    cluster: Cluster,
    default_model: Mapping[str, str],
    recorded: Mapping[str, Any],
    *,
    check: bool = False,
) -> Intake:
    """Return what the user asked for.

    recorded: the intake of a run to be repeated, which then replaces all other input. check: write and download
    nothing. No node is contacted. Raise BadInput with every fault at once.
    """
    reader = Reader(given, places, cluster, default_model, check)
    return reader.replayed(Intake.from_json(recorded, "replay")) if recorded else reader.read()


class Reader:
    """Reads what the user gave and collects every fault before it raises. check: write and download nothing."""

    def __init__(
        self, given: Given, places: Places, cluster: Cluster, default_model: Mapping[str, str], check: bool = False
    ) -> None:
        self.given, self.places, self.cluster = given, places, cluster
        self.default_model, self.check = default_model, check
        self.faults: list[Fault] = []

    def replayed(self, intake: Intake) -> Intake:
        """Return a recorded run's intake. Raise BadInput if anything was given beside it."""
        self._try(nodes_from_hostvars, self.cluster.hostvars, {}, self.cluster.source)
        self.faults += self.cluster.faults()
        self.faults += beside(self.given, RECORDED, "a run to replay")
        self.faults += secret_faults(intake.request.experiment, self.given.experiment_secrets)
        if self.faults:
            raise BadInput(dict.fromkeys(self.faults))
        return intake

    def read(self) -> Intake:
        """Return the request. Raise BadInput with all faults. No node is contacted."""
        given, hostvars = self.given, self.cluster.hostvars
        nodes = self._try(nodes_from_hostvars, hostvars, {}, self.cluster.source)
        self.faults += self.cluster.faults()
        self.faults += typed_faults(given.extra_vars, VARIABLES)
        options = self._try(
            Options.read, given.strategy, given.placement_time_limit, given.placement_seed, given.repeat
        )
        saved = self._saved() if given.plan else None
        pins = (dict(saved.pins) if saved else self._try(parse_pins, given.placement)) or {}
        why = self._try(parse_why, given.why) or []
        original = self._original() if given.experiment_config != "" else None
        name, path = self._experiment_file(saved, original)
        text = self._try(read_text, path) if path else None
        overrides = self._try(overrides_of, given.workload) or {}
        if path and text is not None:
            text = self._try(overridden, text, path, overrides)
        experiment = self._try(parse_experiment, text, path, hostvars, pins) if path and text is not None else None
        if options and nodes and experiment:
            self.faults += options.faults(experiment.design, nodes, experiment.instances, pins)
            self.faults += why_faults(why, [one.id for one in experiment.instances], list(hostvars))
        release = self._try(
            stage,
            self.places.cache,
            self.places.packages,
            given.experiment_code_src or None,
            given.experiment_code_ref or None,
            check=self.check,
        )
        models = self._models(experiment) if experiment else {}
        needs, warnings = self._memory(experiment, models) if experiment else ({}, [])
        command = command_words(given.experiment_command)
        self.faults += word_faults("experiment_command", command)
        if experiment:
            self.faults += word_faults("command", experiment.command or ())
            self.faults += secret_faults(experiment, given.experiment_secrets)
            self.faults += workload_faults(experiment, bool(command), bool(given.experiment_code_src))
        if self.faults or not (experiment and path and options and release):
            raise BadInput(dict.fromkeys(self.faults))
        request = Request(
            name=experiment.name,
            path=str(path),
            text=experiment.text,
            release=release_ref(release),
            reference=reference(name, path),
            pins=pins,
            strategy=options.strategy,
            time_limit_s=options.time_limit_s,
            seed=options.seed,
            repeat=options.repeat,
            why=tuple(f"{id}:{node}" if node else id for id, node in why),
            command=tuple(command),
            models=models,
            memory={id: estimate.to_json() for id, estimate in needs.items()},
            saved=SavedRef(given.plan, saved.to_json()) if saved else None,
            overrides={"workload": overrides} if overrides else {},
        )
        warnings += travel_warnings(release)
        tables = (original.table if original else "", estimate_table(experiment, needs), travel_table(release))
        notes = tuple(note.to_json() for note in original.notes) if original else ()
        return Intake(request, "\n\n".join(filter(None, tables)), notes, tuple(warnings))

    def _try(self, call: Callable[..., T], *args: Any, **options: Any) -> T | None:
        """Return the call's result; if it raises an error of ours, keep its faults and return None."""
        try:
            return call(*args, **options)
        except BadInput as error:
            self.faults += error.faults
        except PlanFileError as error:
            self.faults.append(Fault("plan", "", str(error)))
        except ReleaseError as error:
            self.faults.append(Fault("experiment_code_src", "", str(error)))
        except ModelError as error:
            self.faults.append(Fault("model", "", str(error)))
        return None

    def _experiment_file(self, saved: SavedPlan | None, original: Original | None) -> tuple[str, Path | None]:
        """Return the experiment's name and file: from the original's configs, a given name, or a saved plan."""
        given = self.given
        name = given.experiment or (saved.experiment if saved else "")
        if given.experiment_config != "":
            written = self._try(original.write, self.places.cache / "experiments") if original else None
            name = str(written or "")
        wanted = name or not (given.plan or given.experiment_config != "")
        return name, self._try(find_experiment, name, self.places.experiments) if wanted else None

    def _saved(self) -> SavedPlan | None:
        """Return the saved plan; anything given beside it that it has already decided is a fault."""
        given = self.given
        self.faults += beside(given, PLANNED, "a saved plan")
        saved = self._try(read_plan, Path(given.plan))
        if saved and given.experiment:
            asked = self._try(find_experiment, given.experiment, self.places.experiments)
            of = self._try(find_experiment, saved.experiment, self.places.experiments)
            if asked and of and not asked.samefile(of):
                problem = (
                    f"{given.plan} is a plan of {saved.experiment}, not of {given.experiment}; leave experiment out"
                )
                self.faults.append(Fault("plan", "", problem))
        return saved

    def _original(self) -> Original | None:
        """Return the original's configs as an experiment; anything given beside them that names another is a fault."""
        for name in ("experiment", "plan"):
            if self.given.has(name):
                problem = f"given beside {name}, which says the same; give one"
                self.faults.append(Fault("experiment_config", "", problem))
        times = sum(text.startswith("experiment_config=") for text in self.given.extra_vars)
        if times > 1:
            problem = (
                f"given {times} times, of which Ansible keeps the last; give one, with commas: ONE.json,OTHER.json"
            )
            self.faults.append(Fault("experiment_config", "", problem))
            return None
        files = self._try(files_of, self.given.experiment_config)
        return self._try(read_original, files, self.places.cache) if files else None

    def _models(self, experiment: Experiment) -> dict[str, ModelRef]:
        """Return the model of every instance; each distinct model is resolved once."""
        resolved: dict[str, Any] = {}
        found = {}
        for instance in experiment.instances:
            declared = dict(instance.model or experiment.model or self.default_model)
            if not declared:
                problem = "missing; name one here or as default_model in the inventory"
                self.faults.append(Fault(str(experiment.path), "model", problem))
                return {}
            key = str(sorted(declared.items()))
            if key not in resolved:
                resolved[key] = self._try(resolve, declared, self.places.cache, check=self.check)
            if model := resolved[key]:
                found[instance.id] = ModelRef(model.sha256, str(model.path), model.name, origin(declared), model.parts)
        return found

    def _memory(
        self, experiment: Experiment, models: Mapping[str, ModelRef]
    ) -> tuple[dict[str, gguf_memory.Estimate], list[str]]:
        """Return each instance's memory estimate, and warnings. In a check a model may not be downloaded yet."""
        here = {id: path for id, model in models.items() if (path := Path(model.src)).is_file()}
        needs, faults, warnings = gguf_memory.estimate_all(
            experiment, here, gguf_memory.repacked_types(self.cluster.hostvars)
        )
        self.faults += faults
        self.faults += [
            Fault(
                str(experiment.path),
                f"instances.{one.id}.ram_gb",
                "missing, and a check does not download the model that tells it; give it, or run validate.yml once",
            )
            for one in experiment.instances
            if one.ram_gb is None and one.id in models and one.id not in here
        ]
        return needs, warnings


def beside(given: Given, names: Sequence[str], what: str) -> list[Fault]:
    """Return a fault for each variable that was given beside an input that has already decided it."""
    return [Fault(name, "", f"given beside {what}, {ARTICLES}") for name in names if given.has(name)]


def command_words(command: Any) -> list[str]:
    """Return a command as a list of words; a text is split as a shell would, without expansion."""
    return shlex.split(command) if isinstance(command, str) else [str(word) for word in command or ()]


def word_faults(key: str, words: Sequence[str]) -> list[Fault]:
    """Return the words of a command that no process can be given: with a null character, or not to be encoded."""
    problem = "has a character that no argument of a process can hold"
    return [
        Fault("command", f"{key}[{number}]", f"{shown(word)} {problem}")
        for number, word in enumerate(words)
        if "\0" in word or word != word.encode(errors="replace").decode()
    ]


def release_ref(release: Release) -> ReleaseRef:
    """Return the reference to a staged release that a request holds."""
    return ReleaseRef(release.hash, str(release.path), release.source or WORKLOAD, release.commit)
