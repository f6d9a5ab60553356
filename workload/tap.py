"""The one-way tap on a subject's stream."""

from __future__ import annotations

from typing import Any

from .client import Unavailable, request


def read(url: str, after: int, wait: float) -> tuple[list[dict[str, Any]], bool]:
    """(the subject's messages after that many, whether it has ended). Raises Unavailable."""
    status, answer = request(url, "GET", f"/stream?after={after}&wait={wait:g}", timeout=wait + 10)
    if status != 200 or not isinstance(answer, dict):
        raise Unavailable(f"{url}: answers {status} {answer}")
    return [row for _, row in answer["lines"]], bool(answer["ended"])
