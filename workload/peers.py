"""How two instances know each other: each request and each answer between them carries a code made with their key.

    Jarfleet-Sender: a                  who asks
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
from dataclasses import dataclass
from typing import Any, Mapping

from contract import ContractError
from contract.credentials import LIMIT, UnitCredentials
from contract.json_records import decoded

from .client import Unavailable, exchange
from .this_instance import ConfigError, Instance

SENDER, NONCE, CODE = "Jarfleet-Sender", "Jarfleet-Nonce", "Jarfleet-Code"


@functools.lru_cache(maxsize=None)
def own_keys() -> Mapping[str, str]:
    """The keys that this process was given as its standard input: {the other instance: key}. Raises ConfigError."""
    try:
        text = sys.stdin.buffer.read(LIMIT)
        return UnitCredentials.from_json(decoded(text, "standard input"), "standard input").keys
    except (OSError, ContractError) as error:
        raise ConfigError(f"the keys of peers: {error}") from error


@dataclass(frozen=True)
class Asked:
    """A request as its code covers it."""

    sender: str
    recipient: str
    nonce: str
    method: str
    path: str
    body: bytes

    def code(self, key: str) -> str:
        """The code of the request."""
        return self._code(key, "request", self.body)

    def code_of_answer(self, key: str, status: int, content: bytes) -> str:
        """The code of the answer to it."""
        return self._code(key, f"answer {status}", content)

    def _code(self, key: str, what: str, content: bytes) -> str:
        head = json.dumps([what, self.sender, self.recipient, self.nonce, self.method, self.path]).encode()
        return hmac.new(bytes.fromhex(key), head + b"\n" + content, hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Peer:
    """Another instance, as this one talks to it: a peer, or the stream relay of a subject."""

    id: str
    url: str
    own_id: str
    key: str

    @classmethod
    def of(cls, instance: Instance, id: str) -> Peer:
        """A peer or a subject of this instance. Raises ConfigError."""
        if id not in own_keys():
            raise ConfigError(f"there is no key for {id} on standard input")
        return cls(id, {**instance.observes, **instance.peers}[id], instance.id, own_keys()[id])

    def request(self, method: str, path: str, body: Any = None, timeout: float = 10) -> tuple[int, Any]:
        """Send `body` as JSON and return the status and the decoded answer.

        Raises Unavailable if there is no answer within `timeout` seconds of silence, or one of somebody else's: the
        port may still, or again, belong to another.
        """
        data = b"" if body is None else json.dumps(body).encode()
        asked = Asked(self.own_id, self.id, secrets.token_hex(16), method, path, data)
        headers = {SENDER: asked.sender, NONCE: asked.nonce, CODE: asked.code(self.key)}
        answer = exchange(self.url, method, path, data, headers, timeout)
        if not _equal(answer.headers.get(CODE, ""), asked.code_of_answer(self.key, answer.status, answer.content)):
            raise Unavailable(f"{self.url}: answers {answer.status}, and not with the key of {self.id}")
        return answer.status, answer.value()


def authentic(asked: Asked, code: str, keys: Mapping[str, str]) -> bool:
    """Whether a request with this code was made by its sender."""
    key = keys.get(asked.sender)
    return key is not None and _equal(code, asked.code(key))


def _equal(one: str, other: str) -> bool:
    """Compare two codes in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())
