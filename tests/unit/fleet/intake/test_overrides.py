"""Settings of the command line: the experiment becomes what it would be had its file said so."""

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.intake.overrides import overridden, overrides_of
from placement import BadInput, parse_experiment

YAML = """\
# A comment.
name: x
workload: {mode: conversation, rounds: 40, deep: {a: 1, b: [1, 2]}, since: "2024-01-01"}
instances: [{id: a, ram_gb: 1}]
"""


def workload(text: str, path: str, **given: Any) -> Any:
    return parse_experiment(overridden(text, Path(path), given), Path(path)).workload


@pytest.mark.parametrize("path", ["x.yml", "x.json"])
def test_what_is_given_replaces_what_the_file_says_and_leaves_the_rest(path: str) -> None:
    text = YAML if path == "x.yml" else json.dumps(parse_experiment(YAML, Path("x.yml")).raw)
    made = workload(text, path, rounds=3, deep={"b": [9]}, pause_seconds=0)
    assert made == {
        "mode": "conversation",
        "rounds": 3,
        "deep": {"a": 1, "b": [9]},
        "since": "2024-01-01",
        "pause_seconds": 0,
    }


def test_a_file_without_settings_gets_them() -> None:
    assert workload("name: x\ninstances: [{id: a, ram_gb: 1}]\n", "x.yml", rounds=3) == {"rounds": 3}


def test_the_text_says_whence_they_are_and_without_any_it_stays_as_it_is() -> None:
    assert overridden(YAML, Path("x.yml"), {}) == YAML
    assert overridden(YAML, Path("x.yml"), {"rounds": 3}).startswith("# x.yml, with settings of the command line: ")


@pytest.mark.parametrize("text", ["name: x\nname: y\n", "workload: 3\n", "- a\n"])
def test_what_is_wrong_with_a_file_is_named_as_it_stands_there(text: str) -> None:
    assert overridden(text, Path("x.yml"), {"rounds": 3}) == text


@pytest.mark.parametrize("given", ["rounds=3", [3], 3])
def test_what_is_no_mapping_is_refused(given: Any) -> None:
    with pytest.raises(BadInput, match="is not a mapping; write"):
        overrides_of(given)
