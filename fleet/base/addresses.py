"""Remove secrets from addresses before they are written to a record or a message."""

from __future__ import annotations

import re

# scheme://user:password@host/path?token#fragment, up to whatever ends an address in a text.
ADDRESS = re.compile(r"(?P<scheme>[a-zA-Z][\w+.-]*://)(?:[^/@\s'\"]*@)?(?P<place>[^\s?#'\"]*)(?:[?#][^\s'\"]*)?")

# user:password@, or a parameter whose name says what it is.
SECRET = re.compile(
    r"[a-zA-Z][\w+.-]*://(?:[^/@\s'\"]*:[^/@\s'\"]+@|\S*[?&][\w.-]*(?:token|key|secret|passw|signature|credential)[\w.-]*=)",
    re.IGNORECASE,
)


def holds_secret(text: str) -> bool:
    """Whether an address in the text has a password, or a parameter that is named like a secret."""
    return SECRET.search(text) is not None


def redacted(text: str) -> str:
    """Return `text` without user, password, query and fragment in its addresses: each may hold a secret."""
    return ADDRESS.sub(r"\g<scheme>\g<place>", text)
