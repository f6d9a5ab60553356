"""Why there is no plan, as data and text: a conflict, and changes that would make a plan possible.

Sizes are GB = 2**30 bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_NAMES = 8  # in one line of text
MOST_LINES = 12  # changes listed in the text; JSON has all of them


@dataclass(frozen=True)
class Constraint:
    """One constraint of a conflict, such as ("ram", ("a",), "needs 20.0 GB RAM").

    kind and subject: ram, gpu, gpu_memory, pin, node_type have one instance as subject; anti_affinity two instances;
    slots a node; ports and same_type nothing.
    """

    kind: str
    subject: tuple[str, ...]
    says: str = field(default="", compare=False)

    def to_json(self) -> dict[str, Any]:
        subject = "node" if self.kind == "slots" else "instances"
        return {"constraint": self.kind, subject: list(self.subject), "says": self.says}


OF_ONE = ("gpu", "ram", "gpu_memory", "node_type", "pin")  # kinds of constraints on a single instance


@dataclass(frozen=True)
class Conflict:
    """Instances that cannot all be placed, and a set of their constraints that is sufficient for the conflict.

    irreducible: without any one of the instances or constraints there would be a plan. smallest: proven that no
    conflict has fewer instances, and none of these instances fewer constraints. has, takes: for each node that they may
    use, its resources that the constraints concern, as text, and how many of the instances fit there under these
    constraints alone.
    """

    instances: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    has: Mapping[str, str]
    takes: Mapping[str, int]
    smallest: bool
    irreducible: bool

    def __str__(self) -> str:
        every = {1: "", 2: "both "}.get(len(self.instances), "all ")
        lines = [f"{self._kind()}: {listed(self.instances)} cannot {every}be placed", *self._needs(), *self._between()]
        capacities = grouped(((has, self.takes.get(node)), node) for node, has in self.has.items())
        for (has, takes), nodes in capacities:
            capacity = "" if takes is None or len(self.instances) == 1 else f"room for {takes or 'none'} of them"
            lines.append(f"{listed(nodes)}: {', '.join(filter(None, [has, capacity])) or 'no capacity'}")
        return "\n  ".join(lines)

    def brief(self) -> str:
        """Return one line: `a needs a GPU; b is on jetson; a and b are to be apart; host, rpi1: no GPU`."""
        has = grouped((has, node) for node, has in self.has.items() if has)
        return "; ".join([*self._needs(), *self._between(), *(f"{listed(nodes)}: {what}" for what, nodes in has)])

    def _needs(self) -> list[str]:
        """Return the needs of single instances; instances with the same needs share a line."""
        needs: dict[str, list[str]] = {}
        for constraint in self.constraints:
            if constraint.kind in OF_ONE:
                needs.setdefault(constraint.subject[0], []).append(constraint.says)
        shared = grouped((_joined(wants), id) for id, wants in needs.items())
        return [f"{listed(ids)} {'each ' if len(ids) > 1 else ''}{wants}" for wants, ids in shared]

    def _between(self) -> list[str]:
        """Return the constraints between instances."""
        return [one.says for one in self.constraints if one.kind not in OF_ONE and one.kind != "slots"]

    def to_json(self) -> dict[str, Any]:
        """`{"instances", "constraints", "nodes": {node: {"has", "takes"}}, "smallest", "irreducible", "says"}`."""
        return {
            "instances": list(self.instances),
            "constraints": [constraint.to_json() for constraint in self.constraints],
            "nodes": {node: {"has": has, "takes": self.takes.get(node)} for node, has in self.has.items()},
            "smallest": self.smallest,
            "irreducible": self.irreducible,
            "says": str(self),
        }

    def _kind(self) -> str:
        if self.smallest:
            return "smallest conflict"
        if self.irreducible:
            return "a conflict, perhaps not the smallest, of which no part can be left out"
        return "a conflict, not reduced further in the time given"


def _joined(wants: Sequence[str]) -> str:
    """Join needs into one text: `needs a GPU and 20.0 GB RAM and is pinned to jetson`."""
    return " and ".join(
        want.removeprefix("needs ") if at and want.startswith("needs") else want for at, want in enumerate(wants)
    )


@dataclass(frozen=True)
class Remedy:
    """One change that makes a plan possible, verified by solving again. change: its kind and values as data.

    alike: names of other instances or nodes to which the same applies.
    """

    change: Mapping[str, Any]
    says: str
    alike: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.says + (f" (or the same with {listed(self.alike)})" if self.alike else "")

    def to_json(self) -> dict[str, Any]:
        return {**self.change, "alike": list(self.alike), "says": self.says}


@dataclass(frozen=True)
class Reasons:
    """Why there is no plan, and the changes that would make one possible. untried: changes not tried in time."""

    conflict: Conflict | None = None
    remedies: Sequence[Remedy] = ()
    untried: int = 0

    def __str__(self) -> str:
        blocks = [str(self.conflict)] if self.conflict else []
        lines = [f"  {remedy}" for remedy in self.remedies[:MOST_LINES]]
        if len(self.remedies) > MOST_LINES:
            lines.append(f"  and {len(self.remedies) - MOST_LINES} more")
        if self.untried:
            lines.append(f"  {self.untried} other changes were not tried in the time given")
        if self.remedies:
            blocks.append("\n".join(["each of these makes it fit, the smallest change first:", *lines]))
        elif self.untried:
            blocks.append("\n".join(["what would make it fit:", *lines]))
        else:
            blocks.append("no single change to a node, or to an instance's demands, makes it fit")
        return "\n\n".join(blocks)

    def to_json(self) -> dict[str, Any]:
        """Return `{"conflict", "remedies", "untried"}`."""
        return {
            "conflict": self.conflict.to_json() if self.conflict else None,
            "remedies": [remedy.to_json() for remedy in self.remedies],
            "untried": self.untried,
        }


def listed(all_names: Iterable[str], most: int = MOST_NAMES) -> str:
    """Return `a, b, c`; of many names the first ones and the number of the others."""
    all_names = list(all_names)
    more = len(all_names) - most
    return ", ".join(all_names) if more <= 1 else f"{', '.join(all_names[:most])} and {more} more"


def grouped(pairs: Iterable[tuple[Any, str]]) -> list[tuple[Any, list[str]]]:
    """Group names by key, in the order in which the keys first occur."""
    groups: dict[Any, list[str]] = {}
    for key, name in pairs:
        groups.setdefault(key, []).append(name)
    return list(groups.items())
