"""The errors of this package that its callers map to a message."""

from __future__ import annotations


class NodeError(Exception):
    """Something on the node is not as it must be. The message says what, and what to do."""


class StartFailed(NodeError):
    """An instance did not start, and was stopped again."""
