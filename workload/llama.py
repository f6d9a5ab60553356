"""A client of llama-server."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from .client import persist, request

SLOWEST_ANSWER = 1800  # seconds; a long answer of a big model on a Raspberry Pi takes many minutes


class Reply(NamedTuple):
    """What the model said, and how many tokens that was."""

    content: str
    tokens: int


class LlamaError(Exception):
    """llama-server refuses, and would refuse again."""


class ContextExceeded(LlamaError):
    """The prompt does not fit the context."""


def chat(
    url: str,
    messages: Sequence[dict[str, str]],
    *,
    max_tokens: int = 64,
    temperature: float = 0.8,
    seed: int = 1,
) -> Reply:
    """Have the model answer `messages` ([{"role", "content"}, ...]).

    Waits for as long as the server does not answer: it may be loading, or being restarted. Raises LlamaError.
    """
    body = {"messages": list(messages), "max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    status, answer = persist(
        "llama-server", lambda: request(url, "POST", "/v1/chat/completions", body, timeout=SLOWEST_ANSWER)
    )
    if status != 200:
        error = answer.get("error") if isinstance(answer, dict) else None
        kind = error.get("type") if isinstance(error, dict) else None
        fault = ContextExceeded if kind == "exceed_context_size_error" else LlamaError
        raise fault(f"llama-server answers {status}: {error or answer}")
    try:
        content = answer["choices"][0]["message"].get("content") or ""
        return Reply(content, int((answer.get("usage") or {}).get("completion_tokens") or 0))
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise LlamaError(f"llama-server's answer is not a chat completion: {answer!r}") from error
