"""A page of sections as one HTML document: no network, no script; whatever a mind has said is shown as text."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from fleet.report.blocks import Page, shown

# What HTML has no place for; a lone surrogate cannot be written at all.
UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def to_html(page: Page) -> str:
    """The document."""
    environment = Environment(
        loader=PackageLoader("fleet.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    return UNWRITABLE.sub("\ufffd", environment.get_template("report.html.j2").render(page=page))
