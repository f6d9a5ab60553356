"""Render a page as one HTML document without network access or scripts; whatever a mind has said is shown as text."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from fleet.report.blocks import Page, shown

# Characters that HTML does not allow; a lone surrogate cannot even be encoded.
UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def to_html(page: Page) -> str:
    """Return the page as an HTML document."""
    environment = Environment(
        loader=PackageLoader("fleet.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    return UNWRITABLE.sub("\ufffd", environment.get_template("report.html.j2").render(page=page))
