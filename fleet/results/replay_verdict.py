"""Whether a replay took the same course as its original."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from os.path import commonprefix
from typing import Any

from fleet.base.differences import change_text, differences
from fleet.base.errors import FleetError
from fleet.record.run_folder import Run
from fleet.results.compare import transcript
from fleet.results.merged_database import deaths_of, opened

CONTEXT = 15  # characters shown before the point where two texts differ


def verdict(run: Run) -> str:
    """Return whether a replay took the same course as its original, as text; "" for a run that is not a replay."""
    original = run.manifest.get("replay_of")
    if not original:
        return ""
    head = f"replay of {original}: "
    try:
        with opened(Run.open(run.path.parent, original).path) as there, opened(run.path) as here:
            rows, again = transcript(there), transcript(here)
            died = len(deaths_of(there)), len(deaths_of(here))
    except FleetError as error:
        return f"{head}the transcripts cannot be compared: {error}"
    pairs = enumerate(zip_longest(rows, again), start=1)
    number, pair = next(((number, pair) for number, pair in pairs if pair[0] != pair[1]), (0, None))
    if pair is None:
        same = f"the transcripts are identical, {len(rows)} rows"
        return head + (same if rows else "neither run has a transcript, as with a program of one's own")
    lines = [f"{head}the transcripts differ from row {number} on, of {len(rows)} there and {len(again)} here:"]
    lines += [f"  {line}" for line in _first(*pair)]
    if any(died):
        lines.append(f"  processes died, {died[0]} there and {died[1]} here: when one dies is not repeated")
    return "\n".join(lines)


def _first(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the first rows that differ: column by column if they are of the same kind."""

    def place(row: Mapping[str, Any] | None) -> str:
        if row is None:
            return "nothing more"
        when = f"round {row['round']}" if "round" in row else f"life {row['cycle_number']}"
        return f"{row['table']} of {row['instance']}, {when}"

    if before and after and place(before) == place(after):
        for key, *pair in differences(before, after):
            yield change_text(f"{place(before)}: {key}", *_apart(*pair))
    else:
        yield f"there {place(before)}, here {place(after)}"


def _apart(before: Any, after: Any) -> tuple[Any, Any]:
    """Return two values; of two texts only what follows from shortly before their first difference.

    Messages show only the beginning of a text.
    """
    if isinstance(before, str) and isinstance(after, str):
        start = len(commonprefix([before, after])) - CONTEXT  # noqa: RUF071 - characters are meant
        if start > 0:
            return f"...{before[start:]}", f"...{after[start:]}"
    return before, after
