"""Every type that crosses a border: it reads what it writes, and what is none of it is one named fault."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Optional, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import ContractError, description, events, exits, launch_spec, node_state, outcome, progress
from contract.json_records import Record, read_bytes, shown

RECORDS = [
    *(description.Resources, description.Capacity, description.InstanceDescription, description.InstanceRef),
    *(launch_spec.Limits, launch_spec.Process, launch_spec.LaunchSpec),
    *(node_state.Gpu, node_state.InstanceState, node_state.NodeState),
    *(exits.ExitMemory, exits.Exit, exits.Start, outcome.Outcome, progress.Progress),
    *events.KINDS.values(),
]


def values(annotation: Any, choices: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """Values of a field."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if choices:
        return st.sampled_from(choices)
    if annotation is Any:
        return st.one_of(st.text(max_size=3), st.integers(0, 9), st.none())
    if type(None) in arguments:
        return st.none() | values(arguments[0], ())
    if origin is tuple:
        return st.lists(values(arguments[0], ()), max_size=2).map(tuple)
    if origin is not None:  # a mapping
        return st.dictionaries(st.text(max_size=3), values(arguments[1], ()), max_size=2)
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return records(annotation)
    if annotation is Path:
        return st.sampled_from([Path("/a b/c"), Path("/x")])
    return {
        str: st.text(max_size=5),
        int: st.integers(0, 10**6),
        float: st.floats(0, 10**6, allow_nan=False),
        bool: st.booleans(),
    }[annotation]


def records(kind: type[Record]) -> st.SearchStrategy[Record]:
    hints = get_type_hints(kind)
    each = {one.name: values(hints[one.name], one.metadata.get("choices", ())) for one in fields(kind)}  # type: ignore[arg-type]
    return st.builds(kind, **each)


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_a_record_reads_what_it_writes(kind: type[Record]) -> None:
    @given(records(kind))
    def reads(record: Record) -> None:
        written = json.loads(json.dumps(record.to_json()))
        assert kind.from_json(written, "x") == record
        assert kind.from_json({**written, "of a newer version": 1}, "x") == record

    reads()


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_nonsense_is_one_fault_that_names_where_it_is(kind: type[Record]) -> None:
    names = [one.name for one in fields(kind)] or ["x"]  # type: ignore[arg-type]
    keys = st.sampled_from(names) | st.text(max_size=3)
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=10,
    )

    @given(anything)
    def is_read_or_named(value: Any) -> None:
        fault = "file.json: "
        try:
            kind.from_json(value, "file.json")
        except ContractError as error:
            fault = str(error)
        assert fault.startswith("file.json: ")
        assert fault.isprintable()

    is_read_or_named()


@dataclass(frozen=True)
class Sample(Record):
    """One field of each kind."""

    text: str
    number: float = 0.0
    whole: int = 0
    flag: bool = False
    maybe: Optional[int] = None  # noqa: UP045 - the form that Python 3.8 knows
    sizes: Mapping[str, int] = field(default_factory=dict)
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ([], "x: expected an object, found a list"),
        (None, "x: expected an object, found null"),
        ({}, "x: text: missing"),
        ({"text": None}, "x: text: expected text, found null"),
        ({"text": 5}, "x: text: expected text, found 5"),
        ({"text": "", "number": "1"}, "x: number: expected a number, found '1'"),
        ({"text": "", "number": math.nan}, "x: number: expected a number, found nan"),
        ({"text": "", "number": 10**400}, "x: number: expected a number, found 1000"),
        ({"text": "", "number": True}, "x: number: expected a number, found True"),
        ({"text": "", "whole": 1.0}, "x: whole: expected a whole number, found 1.0"),
        ({"text": "", "whole": False}, "x: whole: expected a whole number, found False"),
        ({"text": "", "flag": 1}, "x: flag: expected true or false, found 1"),
        ({"text": "", "maybe": {}}, "x: maybe: expected a whole number, found an object"),
        ({"text": "", "sizes": {"a": "b"}}, "x: sizes.a: expected a whole number, found 'b'"),
        ({"text": "", "names": "abc"}, "x: names: expected a list, found 'abc'"),
        ({"text": "", "names": ["a", 1]}, "x: names[1]: expected text, found 1"),
    ],
)
def test_each_kind_of_nonsense_is_reported(value: Any, fault: str) -> None:
    with pytest.raises(ContractError) as refused:
        Sample.from_json(value, "x")
    assert str(refused.value).startswith(fault)


def test_what_is_sound_is_kept_and_what_is_not_is_named() -> None:
    kept, faults = Sample.salvage({"text": "a", "number": "b", "whole": 3, "names": {}}, "x")
    assert (kept.text, kept.number, kept.whole, kept.names) == ("a", 0.0, 3, ())
    assert faults == ["x: number: expected a number, found 'b'", "x: names: expected a list, found an object"]


def test_a_message_quotes_no_control_characters_and_nothing_long() -> None:
    assert shown("\x1b]0;title\x07") == "'\\x1b]0;title\\x07'"
    assert len(shown("x" * 10_000)) == 60


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ContractError, match="not a regular file"):
        read_bytes(Path("/dev/zero"), 100)
