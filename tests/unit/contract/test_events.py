"""Events: every kind in one registry, and lines that are none."""

import json
from pathlib import Path

from contract import events

ROOT = Path(__file__).resolve().parents[3]


def test_a_line_is_time_kind_and_fields() -> None:
    event = events.Died("a", "llama", 2, "rpi1")
    line = events.to_json(event, "2026-11-26T10:00:00Z")
    assert list(line)[:2] == ["time", "event"]
    fields = {"instance": "a", "unit": "llama", "deaths": 2, "node": "rpi1"}
    assert line == {"time": "2026-11-26T10:00:00Z", "event": "died", **fields}
    assert events.from_json(json.loads(json.dumps(line)), 1, "") == ("2026-11-26T10:00:00Z", event)


def test_a_line_of_an_older_run_that_has_fewer_fields_is_read() -> None:
    _, event = events.from_json({"time": "t", "event": "node_lost", "node": "rpi1", "reason": "timed out"}, 1, "")
    assert event == events.NodeLost("rpi1", "", "timed out")


def test_what_is_no_event_is_unreadable_and_keeps_its_text() -> None:
    for value in (None, [], 5, {}, {"event": "of a newer version"}, {"event": ["died"]}, {"event": "died"}):
        assert events.from_json(value, 7, "text") == ("", events.Unreadable(7, "text"))


def test_every_kind_is_in_the_reference() -> None:
    """docs/reference.md lists what a user finds in events.jsonl."""
    text = (ROOT / "docs/reference.md").read_text()
    assert [kind for kind in events.KINDS if kind != "unreadable" and f"`{kind}`" not in text] == []
