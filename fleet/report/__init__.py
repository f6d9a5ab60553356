"""`report.html`: one page about what a run was and what happened in it, made only from the run's folder.

The page needs no network and runs no script. Whatever a mind has said is shown as text. The same folder gives the same
bytes. What is missing or damaged is reported in its place, and does not stop the rest.
"""

from __future__ import annotations

from pathlib import Path

from fleet.base.files import write_text
from fleet.record.run_folder import Run
from fleet.report.html import to_html
from fleet.report.sections import page

FILE = "report.html"


def render(run: Run) -> str:
    """Return the page of a run as HTML."""
    return to_html(page(run))


def write(run: Run, *, check: bool = False) -> tuple[Path, bool]:
    """Write the page into the run's folder unless it is up to date; return its path and whether it changed.

    check: write nothing. Raise OSError if the folder cannot be written.
    """
    path = run.path / FILE
    text = render(run)
    changed = not path.is_file() or path.read_bytes() != text.encode()
    if changed and not check:
        write_text(path, text)
    return path, changed


__all__ = ["FILE", "render", "write"]
