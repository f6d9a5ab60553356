"""What a program is given in confidence: keys by which instances know each other, and secrets of its user's.

There is a key for each pair of instances, made for one run by its controller. A unit reads what is its own as JSON from
its standard input: it is in no file that an instance can read, in no argument and in no environment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping

from .json_records import Record

LIMIT = 2**20  # bytes


@dataclass(frozen=True)
class UnitCredentials(Record):
    """keys: {the other instance's id: the key of the pair, in hexadecimal}. secrets: {name: value}."""

    keys: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InstanceCredentials(Record):
    """The keys of one instance: its workload's (peers, and subjects that it observes), and its stream relay's."""

    workload: UnitCredentials = UnitCredentials()
    relay: UnitCredentials = UnitCredentials()
