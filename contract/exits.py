"""`logs/exits.jsonl`, the exit log: how each process of an instance ended, and what counts as a death."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

from .json_records import ContractError, Record, choice, decoded, read_bytes
from .names import LLAMA, UNITS, WORKLOAD

COMPLETED, OUT_OF_MEMORY, SIGNAL, EXIT = "completed", "out_of_memory", "signal", "exit"
STOPPED, NODE_LOST, FENCED, DISK_LIMIT = "stopped", "node_lost", "fenced", "disk_limit"
CAUSES = (COMPLETED, OUT_OF_MEMORY, SIGNAL, EXIT, STOPPED, NODE_LOST, FENCED, DISK_LIMIT)
NO_DEATHS = (COMPLETED, STOPPED)  # it ended in its own time, or somebody ordered it

START_LIMIT = 4096  # bytes of a start file
LOG_LIMIT = 64 * 2**20  # bytes of an exit log; a line has about 500


def is_death(cause: str) -> bool:
    """Whether a process that ended of this cause died before its time."""
    return cause not in NO_DEATHS


class Ways(NamedTuple):
    """How systemd says that a process ended: SERVICE_RESULT, EXIT_CODE, EXIT_STATUS (see systemd.exec(5))."""

    result: str = ""
    code: str = ""
    status: str = ""


def cause_of(
    unit: str,
    ways: Ways,
    outcome: str = "",
    out_of_memory: bool = False,
    asked: Optional[bool] = None,
    reason: str = "",
) -> str:
    """The cause of an exit.

    outcome: what outcome.json said when the unit ended; out_of_memory: the kernel has killed a process of the unit for
    its memory; asked: somebody - a person, a shutdown - had systemd stop the unit, None when it does not say;
    reason: for which cause its node stopped the instance.
    """
    killed = ways.code in ("killed", "dumped")
    clean = ways.result == "success" and (killed or ways.status == "0")
    if ways.result == "oom-kill" or (killed and ways.status == "KILL" and out_of_memory):
        return OUT_OF_MEMORY  # control groups of version 1 do not tell systemd of it
    if outcome == "FENCED":
        return FENCED
    if reason in CAUSES:
        return reason
    if unit == LLAMA and clean and outcome == "COMPLETED":
        return COMPLETED  # it is stopped when its workload no longer needs it
    if asked is None:
        asked = killed and ways.status == "TERM"  # who else would
    if asked or outcome in ("STOPPED", "FAILED"):
        return STOPPED
    if killed:
        return SIGNAL
    if unit == WORKLOAD and (ways.result, ways.status) == ("success", "0"):
        return COMPLETED
    return EXIT


@dataclass(frozen=True)
class ExitMemory(Record):
    """What the kernel counted until the exit, in bytes; None: it does not say.

    unit_peak and slice_peak: the peaks of the unit's life and of the slice's. others_resident_peak: what the processes
    of the other unit had resident at most. limit: the slice's. oom_kills: the unit's processes killed for their memory.
    """

    unit_peak: Optional[int] = None
    slice_peak: Optional[int] = None
    others_resident_peak: Optional[int] = None
    limit: Optional[int] = None
    oom_kills: Optional[int] = None


@dataclass(frozen=True)
class Exit(Record):
    """One line of the exit log: a process of a unit ended. Times are ISO 8601, UTC; None: not known.

    `invocation` is systemd's name of the one start of the unit that this is the exit of. `cycle` is the mind's life.
    """

    unit: str = choice(UNITS)
    time: Optional[str] = None
    result: str = ""
    code: str = ""
    status: str = ""
    cause: str = choice(CAUSES, default="")
    started_at: Optional[str] = None
    lived_seconds: Optional[float] = None
    cycle: Optional[int] = None
    node: Optional[str] = None
    invocation: str = ""
    memory: ExitMemory = ExitMemory()

    def __post_init__(self) -> None:
        if not self.cause:  # of an instance that was started before causes were written down
            object.__setattr__(self, "cause", cause_of(self.unit, Ways(self.result, self.code, self.status)))

    @property
    def words(self) -> str:
        """The exit for a person, and for the mind."""
        if self.cause == OUT_OF_MEMORY:
            return "killed: out of memory"
        if self.cause == SIGNAL:
            return f"killed by SIG{self.status}"
        if self.cause == EXIT:
            return f"ended with exit code {self.status}" if self.status else "ended; how is not known"
        if self.cause == NODE_LOST:
            return "its node was lost"
        return self.cause


@dataclass(frozen=True)
class Start(Record):
    """`logs/<unit>.start.json`: the last start of a unit.

    started_at: ISO 8601, UTC; boot: which boot of the node; monotonic: seconds of that boot; oom_kills: the kernel's
    count at the start.
    """

    invocation: str
    boot: str
    started_at: str
    monotonic: float
    oom_kills: int = 0


class Exits(NamedTuple):
    """What an exit log says: its exits in their order, and what in it is no exit."""

    exits: Tuple[Exit, ...] = ()
    faults: Tuple[str, ...] = ()

    def of(self, unit: str) -> List[Exit]:
        """The exits of one unit."""
        return [one for one in self.exits if one.unit == unit]

    def deaths(self, unit: str) -> int:
        """How often a process of the unit died."""
        return sum(is_death(one.cause) for one in self.of(unit))


def read_exits(path: Path, owner: Optional[int] = None) -> Exits:
    """The exit log at `path`; an empty one when there is none. owner: the user id that must own it.

    An exit that was written twice (by its unit's hook, and again by the next start) counts once. A last line without an
    end was torn by a power cut, and is no fault.
    """
    found: List[Exit] = []
    faults: List[str] = []
    seen = set()
    for number, line in enumerate(_lines(path, owner, faults), start=1):
        if not line.strip():
            continue
        where = f"{path.name}: line {number}"
        try:
            one, wrong = Exit.salvage(decoded(line, where), where)
        except ContractError as error:
            if line.endswith(b"\n"):
                faults.append(str(error))
            continue
        faults += wrong
        name = (one.unit, one.invocation)
        if not one.invocation or name not in seen:
            seen.add(name)
            found.append(one)
    return Exits(tuple(found), tuple(faults))


def _lines(path: Path, owner: Optional[int], faults: List[str]) -> List[bytes]:
    try:
        return read_bytes(path, LOG_LIMIT, owner).splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except ContractError as error:
        faults.append(str(error))
        return []
