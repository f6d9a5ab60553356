"""How two instances know each other: each request and each answer between them carries a code made with their key.

    Jarfleet-Sender: a                  who asks
    Jarfleet-Epoch: 2                   in which of its epochs: whoever has met a later one refuses an earlier one
    Jarfleet-Nonce: 5f...               new with each request, so that an old answer cannot stand for a new one
    Jarfleet-Code: 8c...                HMAC-SHA256 (RFC 2104) over what is sent, in hexadecimal

The code proves who speaks and that nothing was changed. It hides nothing: what is said can be read on the network.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import secrets
import sys
import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping

from contract import ContractError
from contract.credentials import LIMIT, UnitCredentials
from contract.json_records import decoded

from .client import Unavailable, exchange
from .this_instance import ConfigError, Instance

SENDER, EPOCH, NONCE, CODE = "Jarfleet-Sender", "Jarfleet-Epoch", "Jarfleet-Nonce", "Jarfleet-Code"


@functools.lru_cache(maxsize=None)
def own_keys() -> Mapping[str, str]:
    """The keys that this process was given as its standard input: {the other instance: key}. Raises ConfigError."""
    try:
        text = sys.stdin.buffer.read(LIMIT)
        return UnitCredentials.from_json(decoded(text, "standard input"), "standard input").keys
    except (OSError, ContractError) as error:
        raise ConfigError(f"the keys of peers: {error}") from error


class Epochs:
    """The newest epoch in which each of the others was met: what is said in an earlier one is not its word any more.

    met: {id: epoch} known beforehand. rises: called with (id, epoch) when one is met in a later epoch, or for the first
    time. The methods may be called from any thread.
    """

    def __init__(
        self, met: Mapping[str, int] | None = None, rises: Callable[[str, int], None] = lambda id, epoch: None
    ) -> None:
        self._met, self._rises, self._lock = dict(met or {}), rises, threading.Lock()

    def accepts(self, id: str, epoch: int) -> bool:
        """Note that one was met in this epoch, and return whether it counts."""
        with self._lock:
            known = self._met.get(id, 0)
            if epoch > known:
                self._rises(id, epoch)
                self._met[id] = epoch
            return epoch >= known


@dataclass(frozen=True)
class Own:
    """This instance, as a server of it answers the others. keys: {the other instance: key}."""

    id: str
    epoch: int
    keys: Mapping[str, str]
    epochs: Epochs = field(default_factory=Epochs)


@dataclass(frozen=True)
class Asked:
    """A request as its code covers it."""

    sender: str
    epoch: int
    recipient: str
    nonce: str
    method: str
    path: str
    body: bytes

    def code(self, key: str) -> str:
        """The code of the request."""
        return self._code(key, "request", self.body)

    def code_of_answer(self, key: str, epoch: int, status: int, content: bytes) -> str:
        """The code of the answer to it, from the recipient in this epoch."""
        return self._code(key, f"answer {epoch} {status}", content)

    def _code(self, key: str, what: str, content: bytes) -> str:
        head = json.dumps([what, self.sender, self.epoch, self.recipient, self.nonce, self.method, self.path]).encode()
        return hmac.new(bytes.fromhex(key), head + b"\n" + content, hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Peer:
    """Another instance, as this one talks to it: a peer, or the stream relay of a subject."""

    id: str
    url: str
    own_id: str
    key: str
    own_epoch: int = 1
    epochs: Epochs = field(default_factory=Epochs)

    @classmethod
    def of(cls, instance: Instance, id: str, epochs: Epochs | None = None) -> Peer:
        """A peer or a subject of this instance. Raises ConfigError."""
        if id not in own_keys():
            raise ConfigError(f"there is no key for {id} on standard input")
        url = {**instance.observes, **instance.peers}[id]
        return cls(id, url, instance.id, own_keys()[id], instance.epoch, epochs or Epochs())

    def request(self, method: str, path: str, body: Any = None, timeout: float = 10) -> tuple[int, Any]:
        """Send `body` as JSON and return the status and the decoded answer.

        Raises Unavailable if there is no answer within `timeout` seconds of silence, or one of somebody else's, or of
        an epoch that is over: the port may still, or again, belong to another.
        """
        data = b"" if body is None else json.dumps(body).encode()
        asked = Asked(self.own_id, self.own_epoch, self.id, secrets.token_hex(16), method, path, data)
        headers = {SENDER: asked.sender, EPOCH: str(asked.epoch), NONCE: asked.nonce, CODE: asked.code(self.key)}
        answer = exchange(self.url, method, path, data, headers, timeout)
        epoch = number(answer.headers.get(EPOCH, ""))
        expected = asked.code_of_answer(self.key, epoch, answer.status, answer.content)
        if not _equal(answer.headers.get(CODE, ""), expected):
            raise Unavailable(f"{self.url}: answers {answer.status}, and not with the key of {self.id}")
        if not self.epochs.accepts(self.id, epoch):
            raise Unavailable(f"{self.url}: answers as {self.id} in epoch {epoch}, which is over")
        return answer.status, answer.value()


def authentic(asked: Asked, code: str, keys: Mapping[str, str]) -> bool:
    """Whether a request with this code was made by its sender."""
    key = keys.get(asked.sender)
    return key is not None and _equal(code, asked.code(key))


def number(epoch: str) -> int:
    """An epoch as a header has it; 0, which is nobody's, for anything else."""
    return int(epoch) if epoch.isascii() and epoch.isdigit() and len(epoch) < 10 else 0


def _equal(one: str, other: str) -> bool:
    """Compare two codes in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())
