"""The packages of a request: resolved for each kind of node that answered, before anything is placed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.artifacts.packages import Kind, Packages, again, kinds_of, requirements, resolve
from fleet.artifacts.releases import CODE
from fleet.base.errors import ReleaseError
from fleet.intake.request import Request
from fleet.observe.cluster import Cluster
from placement.infeasibility import listed


@dataclass(frozen=True)
class Packed:
    """A request with its packages. table: what they are, for a person; warnings: which nodes cannot have them."""

    request: Request
    table: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def told(self) -> dict[str, list[str]]:
        """The warnings as a part of a task's result; Ansible takes no empty list of them."""
        return {"warnings": list(self.warnings)} if self.warnings else {}


def pack(request: Request, cluster: Cluster, cache: Path, *, check: bool = False) -> Packed:
    """Return the request with the packages that its code asks for, or that its record names.

    Raise ReleaseError if no node can have them.
    """
    text = requirements(Path(request.release.src) / CODE) if request.release.has_code and not request.replay else ""
    if not text and not request.packages:
        return Packed(request)
    nodes = [(name, state) for name, state in cluster.states.items() if state]
    found: dict[str, Packages] = {}
    refused: dict[str, str] = {}
    lines, warnings = [], []
    for kind, names in kinds_of(nodes).items():
        try:
            made = dict(_for_kind(request, text, kind, names, cache, check))
        except ReleaseError as error:
            refused |= dict.fromkeys(names, f"its code's packages cannot be had: {error}")
            warnings.append(f"{listed(names)}: no packages for {kind}: {error}")
            continue
        found |= made
        wanted = [line.partition(" ")[0] for one in made.values() for line in one.wanted]
        lines.append(f"packages for {kind}: {listed(dict.fromkeys(wanted)) or 'none'}")
    if nodes and not found:
        raise ReleaseError("\n".join(warnings))
    return Packed(replace(request, packages=found, without_packages=refused), "\n".join(lines), tuple(warnings))


def _for_kind(
    request: Request, text: str, kind: Kind, names: list[str], cache: Path, check: bool
) -> Iterator[tuple[str, Packages]]:
    """Yield (node, packages) for nodes of a kind; recorded ones for those that had some, and no others in a replay."""
    for name in names:
        if recorded := request.packages.get(name):
            yield name, again(recorded, kind, cache, check=check)
        elif not request.replay:
            yield name, resolve(text, kind, cache, check=check)
