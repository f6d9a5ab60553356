"""Text for a terminal: what a mind, a program or a node said must not move the cursor, set a title or hide a word."""

from __future__ import annotations

import unicodedata


def plain(text: str) -> str:
    """Return the text with every character that a terminal acts on escaped: `\\x1b[31m` becomes `\\\\x1b[31m`.

    Control characters other than newline and tab, and those that change the direction of writing or are invisible, are
    escaped as Python does; a space of another kind becomes a space.
    """
    return "".join(map(_plain, text))


def _plain(char: str) -> str:
    if char.isprintable() or char in "\n\t":
        return char
    return " " if unicodedata.category(char) == "Zs" else ascii(char)[1:-1]
