"""What the user asked for, as one typed value: `preflight` makes it, and every later step works from it.

The experiment's text is read once and carried in the request, so that the same text is planned, launched and recorded
even if the file changes meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract import names
from contract.json_records import Record
from fleet.artifacts.packages import Packages
from fleet.artifacts.releases import WORKLOAD
from placement import Experiment, Options, parse_experiment


@dataclass(frozen=True)
class ReleaseRef(Record):
    """A staged release. src: its folder on the controller; source: where the user's code came from, or "workload"."""

    hash: str
    src: str
    source: str = WORKLOAD
    commit: str = ""
    has_contract: bool = True  # False: staged before `contract/` was sent along with the workload

    @property
    def has_code(self) -> bool:
        """Whether the release contains the user's own code."""
        return self.source != WORKLOAD


@dataclass(frozen=True)
class ModelRef(Record):
    """An instance's model on the controller. origin: how it was declared, without secrets.

    parts: of a model in several files the sha256 of each, in order; `src` is the first of them.
    """

    sha256: str
    src: str
    name: str
    origin: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()

    @property
    def files(self) -> list[tuple[str, str]]:
        """(path, sha256) of each file."""
        return list(zip(names.parts_of(self.src), self.parts or (self.sha256,), strict=True))


@dataclass(frozen=True)
class SavedRef(Record):
    """A saved plan that is to be applied, and its file."""

    file: str
    plan: Mapping[str, Any]


@dataclass(frozen=True)
class ReplayOf(Record):
    """A recorded run that is to be repeated. differences: deviations from its record that are already known."""

    run_id: str
    plan: Mapping[str, Any]
    llama_cpp: Mapping[str, str]  # {node: key of its build}
    llama_cpp_builds: Mapping[str, Any]  # {key: what decides that build}
    instances: Mapping[str, Any]  # {instance: how it was started}
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResumeOf(Record):
    """A run that goes on, or a part of it.

    moves: {instance: the epoch that begins} of those that are started anew, of which nothing acts any more by then.
    stays: {instance: its ports} of those that live on meanwhile. until: the newest checkpoint that counts; empty: any.
    """

    run_id: str
    moves: Mapping[str, int]
    stays: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    until: str = ""


@dataclass(frozen=True)
class Request(Record):
    """What was asked for. path: the experiment's file, which is not read again; text: its content."""

    name: str
    path: str
    text: str
    release: ReleaseRef
    reference: str = ""  # how a saved plan refers to the experiment
    pins: Mapping[str, str] = field(default_factory=dict)
    strategy: str = "optimal"
    time_limit_s: float = 20.0
    seed: int | None = None
    repeat: int | None = None
    why: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    models: Mapping[str, ModelRef] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)  # {instance: Estimate.to_json()}
    saved: SavedRef | None = None
    packages: Mapping[str, Packages] = field(default_factory=dict)  # {node: what its instances' code asks for}
    without_packages: Mapping[str, str] = field(default_factory=dict)  # {node: why they cannot be had for it}
    overrides: Mapping[str, Any] = field(default_factory=dict)  # of the command line, in `text` already
    replay: ReplayOf | None = None
    resumes: ResumeOf | None = None

    @property
    def experiment(self) -> Experiment:
        """The experiment with all its sizes. Raises BadInput."""
        return parse_experiment(self.text, Path(self.path)).sized(self.memory)

    @property
    def options(self) -> Options:
        """The options for its placement."""
        return Options.read(self.strategy, self.time_limit_s, self.seed, self.repeat)

    @property
    def model_hashes(self) -> dict[str, str]:
        """{instance: the sha256 of its model}."""
        return {id: model.sha256 for id, model in self.models.items()}
