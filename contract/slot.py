"""llama-server's slot: the tokens that it has read and said, with what it has computed of them, in its own form.

Where it is restored, a mind goes on token for token; without it, llama-server reads the transcript again, which can
differ in the last digits. A restored slot is tried at once: a server that is given the slot's tokens must not read them
again. Some models report success and read everything (those with sliding windows, recurrent layers or a projector).
"""

from __future__ import annotations

from dataclasses import dataclass

from .json_records import Record

LIMIT = 4096  # bytes of a `Restored`


@dataclass(frozen=True)
class Restored(Record):
    """What came of restoring a slot. tokens: in it; kept: those that llama-server did not read again.

    problem: why it could not be restored, empty if it could; without tokens llama-server was not even asked to.
    """

    tokens: int = 0
    kept: int = 0
    problem: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether the instance goes on token for token: the last one is always read again."""
        return not self.problem and self.kept >= max(1, self.tokens - 1)

    @property
    def has_spoiled(self) -> bool:
        """Whether llama-server has failed to restore it, and may answer wrongly from now on."""
        return bool(self.problem and self.tokens)

    @property
    def words(self) -> str:
        """How it goes on, for a person."""
        if self.is_exact:
            return f"token for token ({self.tokens} tokens)"
        return f"from the transcript: {self.problem or f'{self.kept} of {self.tokens} tokens were kept'}"
