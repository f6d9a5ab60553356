"""The blocks that a section of a report consists of. The template renders each kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

from markupsafe import Markup

ROWS = 300  # at most, in a table
CHARACTERS = 4000  # at most, of a text


@dataclass
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    pairs: Mapping[str, Any]


@dataclass
class Figures:
    """The few most important numbers."""

    kind: ClassVar[str] = "figures"
    pairs: Mapping[str, Any]


@dataclass
class Table:
    """Rows below a header. `left_out`: how many more rows there are, and where."""

    kind: ClassVar[str] = "table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    left_out: str = ""

    def is_number(self, column: int) -> bool:
        """Whether a column holds only numbers, which are right-aligned."""
        values = [row[column] for row in self.rows if row[column] is not None]
        return bool(values) and all(isinstance(value, int | float) for value in values)


@dataclass
class Plot:
    """A drawing, with a caption that says what it shows."""

    kind: ClassVar[str] = "plot"
    svg: Markup
    caption: str


@dataclass
class Note:
    """A sentence; `bad` if it reports a fault."""

    kind: ClassVar[str] = "note"
    text: str
    bad: bool = False


@dataclass
class Text:
    """Text shown as it was written."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass
class Fold:
    """A part that is collapsed until the reader opens it."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: Sequence[Any]
    open: bool = False


@dataclass
class Said:
    """Something that was said, with marks for what was done to it, and how others remember it."""

    kind: ClassVar[str] = "said"
    who: str
    text: str
    about: str = ""
    marks: Sequence[str] = ()
    remembered: Sequence[tuple[str, str]] = ()
    own: bool = True


@dataclass
class Section:
    """A part of the page."""

    key: str
    title: str
    blocks: Sequence[Any] = field(default_factory=list)


@dataclass
class Page:
    """The whole report."""

    run_id: str
    name: str
    description: str
    sections: list[Section]


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]], total: int, where: str) -> Table:
    """Return the first rows of a possibly long table. `where`: the database table that holds all `total` rows."""
    some = list(islice(rows, ROWS))
    more = total - len(some)
    return Table(caption, head, some, f"{more:,} more rows: table {where} of experiments.db" if more > 0 else "")


def clipped(text: str, where: str) -> str:
    """Return a text, or its beginning and where the rest is."""
    if len(text) <= CHARACTERS:
        return text
    return f"{text[:CHARACTERS]} ... ({len(text) - CHARACTERS:,} more characters: {where} of experiments.db)"


def shown(value: Any) -> str:
    """Return a cell's value as text for a person."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
