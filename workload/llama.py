"""A client of llama-server."""

from __future__ import annotations

import json
import time
from typing import Any, Callable, NamedTuple, Sequence

from .client import persist, request

SLOWEST_ANSWER = 1800  # seconds; a long answer of a big model on a Raspberry Pi takes many minutes


class Reply(NamedTuple):
    """What the model said, and what it took: tokens read and written, seconds in all, tokens a second by its count.

    cached_tokens: those of the prompt that llama-server knew already.
    """

    content: str
    prompt_tokens: int | None
    tokens: int
    seconds: float
    tokens_per_second: float | None
    cached_tokens: int | None = None


class LlamaError(Exception):
    """llama-server refuses, and would refuse again."""


class ContextExceeded(LlamaError):
    """The prompt does not fit the context."""


def grammar(*groups: Sequence[str]) -> str:
    """A grammar (llama.cpp's GBNF) whose only texts are one choice of each group, with a space between."""
    return "root ::= " + ' " " '.join("(" + " | ".join(map(json.dumps, group)) + ")" for group in groups)


def chat(
    url: str,
    messages: Sequence[dict[str, str]],
    *,
    max_tokens: int = 64,
    temperature: float = 0.8,
    seed: int = 1,
    grammar: str = "",
    alive: Callable[[], None] = lambda: None,
) -> Reply:
    """Have the model answer `messages` ([{"role", "content"}, ...]), within a grammar if one is given.

    Waits for as long as the server does not answer: it may be loading, or being restarted. `alive` is called before
    each attempt, and may raise to give up. Raises LlamaError.
    """
    body: dict[str, Any] = {
        "messages": list(messages),
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
    }
    if grammar:
        body["grammar"] = grammar

    def attempt() -> tuple[int, Any]:
        alive()
        return request(url, "POST", "/v1/chat/completions", body, timeout=SLOWEST_ANSWER)

    started = time.monotonic()
    status, answer = persist("llama-server", attempt)
    if status != 200:
        error = answer.get("error") if isinstance(answer, dict) else None
        kind = error.get("type") if isinstance(error, dict) else None
        fault = ContextExceeded if kind == "exceed_context_size_error" else LlamaError
        raise fault(f"llama-server answers {status}: {error or answer}")
    try:
        content = answer["choices"][0]["message"].get("content") or ""
        usage, timings = answer.get("usage") or {}, answer.get("timings") or {}
        return Reply(
            content,
            usage.get("prompt_tokens"),
            int(usage.get("completion_tokens") or 0),
            round(time.monotonic() - started, 4),
            timings.get("predicted_per_second"),
            timings.get("cache_n"),
        )
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise LlamaError(f"llama-server's answer is not a chat completion: {answer!r}") from error
