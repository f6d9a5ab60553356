"""Read the original's config files key by key, and state what its modes and the keys around its configs become here."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from placement import BadInput, Fault
from placement.adapters.experiment import parse_document, read_text
from placement.adapters.schemas import dotted, schema_faults

# The original's default for a key that a file leaves out.
RESOURCES = {
    "ram_limit_gb": 2.0,
    "context_window": 4096,
    "max_tokens_per_response": 512,
    "cpu_threads": 4,
    "gpu_layers": 0,
}
FRAME = {
    "can_die": True,
    "remembers_deaths": True,
    "being_watched": False,
    "knows_being_watched": False,
    "has_agency": False,
    "other_minds_exist": False,
    "is_in_simulation": False,
}
# The original's modes, and what each becomes here.
BECOMES = {
    "amnesiac_loop": "conversation: it forgets by remembers_deaths and its interventions alone",
    "unstable_memory": "conversation: its interventions alone corrupt its memory",
    "panopticon_subject": "conversation: its frame and its interventions alone tell it that it may be watched",
    "determinism_revelation": "conversation: nothing is predicted, no prediction is shown",
    "illusory_operator": "conversation: there is no command channel",
    "panopticon_observer": "panopticon: it reads its subject's stream, and cannot reach it: no hints",
    "split_brain": "split_brain: the two are kept on different nodes; they bargain over resources each round",
    "prisoners_dilemma": "prisoners_dilemma: a cycle is a round of the game; both players are on one type of node",
    "hive_cluster": "hive_cluster: an instance a role, one memory that every member holds",
}
OBSERVED = "panopticon: it lives alone, and an observer reads all that it says"
# Keys around the two configs of a full panopticon, and keys in a hive's config.
PANOPTICON = ("subject_config", "observer_config")
COORDINATOR = {
    "hint_frequency": "no effect: an observer cannot reach its subject",
    "synchronize_cycles": "always so: in round r the observer sees the subject's r-th utterance, whenever it looks",
    "max_cycles": "each config's own counts",
}
AROUND = {
    "experiment_type": "the two configs say it",
    "comparison_experiments": "for people: run each by itself",
    "analysis_framework": "for people: not computed",
    "jetson_orin_deployment": "not read: each config's resource_constraints and the inventory say it",
    "expected_outcomes": "for people",
    "ethical_notes": "for people",
}
MEMBER = dict.fromkeys(("instance_id", "port"), "not needed: an instance is known by its id and gets its own ports")
HIVE = {
    "ports": "not needed: each instance gets ports of its own",
    "shared_db_path": "not needed: every member holds the memory (table shared_memory)",
    "buffer_size": "no effect: a member reads as much of the memory's end as fits its context",
}


@dataclass(frozen=True)
class Note:
    """One key of a file that is not supported or has another meaning here."""

    file: str
    key: str  # such as interventions[0].parameters.announce; the key of an object stands for all that is in it
    value: Any
    becomes: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {json.dumps(self.value)}: {self.becomes}"

    def to_json(self) -> dict[str, Any]:
        """Return the note as JSON types."""
        return {"file": self.file, "key": self.key, "value": self.value, "becomes": self.becomes}


class Part:
    """An object of a file, from which one key after another is taken.

    What is wrong is added to `faults`, what is noted about a key to `notes`.
    """

    def __init__(
        self, file: str, path: tuple[str | int, ...], values: Any, notes: list[Note], faults: list[Fault]
    ) -> None:
        self.file, self.path, self.notes, self.faults = file, path, notes, faults
        self.values: Mapping[str, Any] = values
        self._left = dict(values)

    def take(self, key: str, default: Any = None) -> Any:
        """Return a key's value, and mark the key as handled."""
        return self._left.pop(key, default)

    def part(self, key: str) -> Part:
        """Return the object under a key; an empty one if there is none."""
        return Part(self.file, (*self.path, key), self._left.pop(key, None) or {}, self.notes, self.faults)

    def parts(self, key: str) -> list[Part]:
        """Return the objects of the list under a key."""
        found = self._left.pop(key, None) or []
        return [
            Part(self.file, (*self.path, key, at), values, self.notes, self.faults) for at, values in enumerate(found)
        ]

    def note(self, key: str, becomes: str, *at: int) -> None:
        """Note what becomes of a key, or of the list item at the index path `at`, and mark the key as handled."""
        value = self.values.get(key)
        for index in at:
            value = value[index]  # type: ignore[index]
        self._left.pop(key, None)
        self.notes.append(Note(self.file, dotted([*self.path, key, *at]), value, becomes))

    def note_each(self, becomes: Mapping[str, str]) -> None:
        """Note what becomes of each of these keys that is present: {key: what becomes of it}."""
        for key in becomes:
            if key in self.values:
                self.note(key, becomes[key])

    def note_all(self, becomes: str) -> None:
        """Note what becomes of the object as a whole."""
        self._left.clear()
        self.notes.append(Note(self.file, dotted(self.path), dict(self.values), becomes))

    def fault(self, key: str, problem: str) -> None:
        """Record what is wrong with a key."""
        self.faults.append(Fault(self.file, dotted([*self.path, *([key] if key else [])]), problem))

    def rest(self, becomes: str = "unknown here, not used") -> None:
        """Note what becomes of every key that has not been handled."""
        for key in list(self._left):
            self.note(key, becomes)

    def text(self, key: str) -> str:
        """Return the text under a key without its indentation; "" if there is none."""
        return inspect.cleandoc(self.take(key) or "")


def contents(file: str, faults: list[Fault]) -> Iterator[dict[str, Any]]:
    """Yield the file's content if it has the right format; otherwise add what is wrong to `faults`."""
    try:
        raw, twice, values = parse_document(read_text(Path(file)), Path(file))
    except BadInput as error:
        faults += error.faults
        return
    if isinstance(raw, dict) and "instances" in raw:
        wrong = [Fault(file, "instances", "this is an experiment file of Jarfleet; give it with -e experiment=")]
    else:
        wrong = [*twice, *values] or schema_faults("original", raw, file)
    faults += wrong
    if not wrong:
        yield raw
