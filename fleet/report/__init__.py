"""`report.html`: one page of what a run was and what came of it, made of its folder alone.

It needs no network and runs no script. What a mind has said is shown as text, whatever it is. The same folder gives the
same bytes. What is missing or damaged is said in its place; nothing of it stops the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fleet._files import write_text
from fleet.compare import side_by_side, told
from fleet.record import Run
from fleet.report.blocks import Note, Section, Table, shown
from fleet.report.sections import Page, page

FILE = "report.html"
# What HTML has no place for; a lone surrogate cannot be written at all.
UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def render(run: Run) -> str:
    """The page of a run."""
    return _html(page(run))


def render_comparison(comparison: Mapping[str, Any]) -> str:
    """A page of what `fleet.compare.compare` gave."""
    facts = Table("`*`: not the same in all", ("", "", *comparison["runs"]), side_by_side(comparison))
    talks = [Note(line) for line in told(comparison)]
    sections = [Section("runs", "Side by side", [facts]), Section("transcripts", "Transcripts", talks)]
    return _html(Page(", ".join(comparison["runs"]), "Runs compared", "", sections))


def _html(page: Page) -> str:
    environment = Environment(
        loader=PackageLoader("fleet.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    text = environment.get_template("report.html.j2").render(page=page)
    return UNWRITABLE.sub("\ufffd", text)


def write(run: Run, *, check: bool = False) -> tuple[Path, bool]:
    """Write the page into the run's folder, unless it lies there already: its path, and whether that changes anything.

    check: write nothing. Raises OSError where the folder cannot be written.
    """
    path = run.path / FILE
    text = render(run)
    changed = not path.is_file() or path.read_bytes() != text.encode()
    if changed and not check:
        write_text(path, text)
    return path, changed


__all__ = ["FILE", "render", "render_comparison", "write"]
