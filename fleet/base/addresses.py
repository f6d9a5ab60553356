"""Remove secrets from addresses before they are written to a record or a message."""

from __future__ import annotations

import re

# scheme://user:password@host/path?token#fragment, up to whatever ends an address in a text.
ADDRESS = re.compile(r"(?P<scheme>[a-zA-Z][\w+.-]*://)(?:[^/@\s'\"]*@)?(?P<place>[^\s?#'\"]*)(?:[?#][^\s'\"]*)?")


def redacted(text: str) -> str:
    """Return `text` without user, password, query and fragment in its addresses: each may hold a secret."""
    return ADDRESS.sub(r"\g<scheme>\g<place>", text)
