"""What the node's program does as root for who may not: one call a process, JSON on its standard input.

A call is one line; the answer is one line on standard output (of "connect" and "attend" a stream follows instead). The
verbs are fixed, and so is the form of what each is given: no path, unit text or command of a caller's is taken as it
comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Tuple

from .credentials import InstanceCredentials
from .description import InstanceRef
from .json_records import Record, choice
from .launch_spec import LaunchSpec

VERBS = ("start", "redirect", "stop", "collect", "logs", "connect", "attend", "promises", "prepare", "install")
LIMIT = 128 * 2**20  # bytes of a call; the settings of an experiment's minds are in a launch spec

# Root's, made by a node's administrator (`LocalRules`); without it the node takes what it is asked.
RULES = "/etc/jarfleet/node.json"
RULES_LIMIT = 65536


@dataclass(frozen=True)
class Call(Record):
    """A verb, and what it is given. check: only say what would be done."""

    verb: str = choice(VERBS)
    given: Mapping[str, Any] = field(default_factory=dict)
    check: bool = False


@dataclass(frozen=True)
class Answer(Record):
    """What came of a call. error: why it failed, empty if it did not; status: what it then left."""

    result: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    status: str = ""


@dataclass(frozen=True)
class LocalRules(Record):
    """Whom this node serves, and where: what a caller says otherwise is refused."""

    owner: str
    work_dir: str
    llama_cpp: str = "/opt/llama.cpp"
    ports: Tuple[int, ...] = (1024, 65535)  # the first and the last that an instance may have
    memory_gb: float = 1e6  # that an instance may have at most


@dataclass(frozen=True)
class Start(Record):
    """Of "start". llama_cpp: the folder of the node's build."""

    launch_spec: LaunchSpec
    llama_cpp: str
    credentials: InstanceCredentials = field(default_factory=InstanceCredentials)
    start_timeout: float = 120.0


@dataclass(frozen=True)
class Redirect(Record):
    """Of "redirect": an instance that lives on, with the addresses of its peers as they are now."""

    launch_spec: LaunchSpec


@dataclass(frozen=True)
class Known(Record):
    """Of "stop" and "connect"."""

    instance_ref: InstanceRef


@dataclass(frozen=True)
class Collect(Record):
    """Of "collect". slot: with llama-server's slot, of which only a checkpoint makes use."""

    instance_ref: InstanceRef
    slot: bool = False


@dataclass(frozen=True)
class Logs(Record):
    """Of "logs": lines after the cursor, or the last so many without one; waits for some."""

    instance_ref: InstanceRef
    cursor: str = ""
    lines: int = 100
    wait_seconds: float = 0.0


@dataclass(frozen=True)
class Prepare(Record):
    """Of "prepare": makes the folders of a work dir."""

    work_dir: str
    owner: str


@dataclass(frozen=True)
class Install(Record):
    """Of "install": artifacts that root is to own, as the module `artifact` has them, taken from where they arrived."""

    items: Tuple[Any, ...]
    work_dir: str
    owner: str
