"""What bootstrap.yml makes of a machine for the project to use it, and unbootstrap.yml undoes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from .calls import LocalRules
from .json_records import Record

# Root's: what was made here and was not there before, so that it can be undone.
MADE = "/etc/jarfleet/made.json"
MADE_LIMIT = 65536


@dataclass(frozen=True)
class Preparation(Record):
    """public_key: whose private key the controller deploys with. program: the sha256 of the node's program.

    harden_sshd: let nobody in but by key, not as root, and only the owner and `also_allowed`.
    """

    rules: LocalRules
    public_key: str
    program: str
    packages: Tuple[str, ...] = ()
    harden_sshd: bool = False
    also_allowed: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Made(Record):
    """What was made here: the account `user`; and `key`, a user with the key that was let in, as "pi AAAA..."."""

    user: str = ""
    key: str = ""
