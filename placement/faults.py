"""Faults of an input, each with file, key, what is wrong and how to fix it."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

MAX_COMPARED = 1000  # limit on the known names that a misspelt one is compared with


@dataclass(frozen=True, order=True)
class Fault:
    """One fault of an input, such as

    `inventory/lab: nodes.rpi1.ram_gb: -8 is not above 0; give the node's RAM in GB (2**30 bytes)`.
    """

    file: str
    key: str
    problem: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.key, self.problem) if part)


class BadInput(ValueError):
    """The input cannot be used. `faults` lists everything wrong with it, not only the first fault."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(map(str, self.faults)))


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """Return `no node is named 'jetsn'; did you mean 'jetson'?`, or, if no name is similar, the known names."""
    known = list(islice(known, MAX_COMPARED))
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.6)
    if close:
        advice = f"did you mean {' or '.join(map(repr, close))}?"
    elif known:
        advice = f"there is {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}"
    else:
        advice = "there is none"
    return f"no {kind} is named {name!r}; {advice}"
