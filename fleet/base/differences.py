"""The differences between two documents, key by key, and their text for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fleet.base.files import SHA256

SHOWN = 60  # characters of a value in a message
MISSING = "missing"


def differences(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, before, after) for every value that differs, in the order of the keys in `before`."""
    for key in [*before, *(key for key in after if key not in before)]:
        old, new = before.get(key, MISSING), after.get(key, MISSING)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{path}{key}.")
        elif old != new:
            yield f"{path}{key}", old, new


def change_text(what: str, before: Any, after: Any) -> str:
    """Return a line such as `rpi1: status was HEALTHY, is UNAVAILABLE`."""
    return f"{what} was {_shown(before)}, is {_shown(after)}"


def _shown(value: Any) -> str:
    """Return a value for a person: text as it is, a list with commas, a number without a needless .0."""
    if isinstance(value, str) and SHA256.fullmatch(value):
        text = f"{value[:12]}..."
    elif isinstance(value, str):
        text = value if value.strip() else repr(value)
    elif isinstance(value, list):
        text = ", ".join(map(_shown, value)) or "none"
    elif isinstance(value, float):
        text = f"{value:g}"
    else:
        text = json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
