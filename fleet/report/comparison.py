"""A comparison of runs, as a page or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.base.errors import RunError
from fleet.base.files import write_text
from fleet.report.blocks import Note, Page, Section, Table
from fleet.report.html import to_html
from fleet.results.compare import side_by_side, transcript_lines


def save(comparison: Mapping[str, Any], path: Path, *, check: bool = False) -> bool:
    """Write the comparison to a file, as a page if its name ends in .html, else as JSON; return whether it changed.

    check: write nothing. Raise RunError if it cannot be written.
    """
    if path.suffix == ".html":
        text = render_comparison(comparison)
    else:
        text = json.dumps(comparison, indent=2, ensure_ascii=False) + "\n"
    try:
        changed = not path.is_file() or path.read_bytes() != text.encode("utf-8", "replace")
        if changed and not check:
            write_text(path, text)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}; set compare_out") from error
    return changed


def render_comparison(comparison: Mapping[str, Any]) -> str:
    """Return the result of `fleet.results.compare.compare` as a page."""
    facts = Table("`*`: not the same in all", ("", "", *comparison["runs"]), side_by_side(comparison))
    talks = [Note(line) for line in transcript_lines(comparison)]
    sections = [Section("runs", "Side by side", [facts]), Section("transcripts", "Transcripts", talks)]
    return to_html(Page(", ".join(comparison["runs"]), "Runs compared", "", sections))
