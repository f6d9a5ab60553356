"""Addresses as they may stand in a record or a message: without their secrets."""

from __future__ import annotations

import re

# scheme://user:password@host/path?token#fragment, up to what ends an address in a text.
ADDRESS = re.compile(r"(?P<scheme>[a-zA-Z][\w+.-]*://)(?:[^/@\s'\"]*@)?(?P<place>[^\s?#'\"]*)(?:[?#][^\s'\"]*)?")


def redacted(text: str) -> str:
    """A text whose addresses have no user, password, query or fragment: each may hold a secret."""
    return ADDRESS.sub(r"\g<scheme>\g<place>", text)
