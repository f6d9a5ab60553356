"""The keys by which instances know each other: one for each pair, made for one run by its controller.

A unit reads its own as JSON from its standard input. They are in no file that an instance can read, in no argument and
in no environment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping

from .json_records import Record

LIMIT = 2**20  # bytes


@dataclass(frozen=True)
class PeerKeys(Record):
    """{the other instance's id: the key of the pair, in hexadecimal}."""

    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InstanceKeys(Record):
    """The keys of one instance: its workload's (peers, and subjects that it observes), and its stream relay's."""

    workload: PeerKeys = PeerKeys()
    relay: PeerKeys = PeerKeys()
