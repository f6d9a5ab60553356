"""`report.html`: one page of what a run was and what came of it, made of its folder alone.

It needs no network and runs no script. What a mind has said is shown as text, whatever it is. The same folder gives the
same bytes. What is missing or damaged is reported in its place, and stops nothing else.
"""

from __future__ import annotations

from pathlib import Path

from fleet.base.files import write_text
from fleet.record.run_folder import Run
from fleet.report.html import to_html
from fleet.report.sections import page

FILE = "report.html"


def render(run: Run) -> str:
    """The page of a run."""
    return to_html(page(run))


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


__all__ = ["FILE", "render", "write"]
