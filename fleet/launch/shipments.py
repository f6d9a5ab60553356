"""What each node needs before its instances can start: the code, and the models of those instances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract import names
from contract.json_records import Record
from fleet.artifacts.packages import Packages
from fleet.intake.request import Request
from fleet.observe.cluster import Cluster


@dataclass(frozen=True)
class Shipment(Record):
    """Artifacts for one node, in the form that the action `push` takes.

    built_by: the first of those nodes that get the same build of llama.cpp, which asks for it for all of them.
    """

    name: str
    artifacts: tuple[Any, ...]
    built_by: str


def shipments(
    request: Request,
    cluster: Cluster,
    assignments: Mapping[str, str] | None = None,
    standby: Mapping[str, str | None] | None = None,
) -> list[Shipment]:
    """Return what each node of a plan {instance: node} gets; without a plan, everything for each node that answered.

    Of a run that goes on, only the nodes of what is started anew get anything. standby: nodes that get what an instance
    needs, too.
    """
    if assignments is None:
        chosen = {name: list(request.models) for name in cluster.names if cluster.states[name]}
    else:
        chosen = _by_node(assignments, request.resumes.moves if request.resumes else assignments)
    for id, node in (standby or {}).items():
        if node and id not in chosen.setdefault(node, []):
            chosen[node].append(id)
    return _to_each(cluster, {node: _artifacts(request, cluster, node, ids) for node, ids in chosen.items()})


def checkpoint_shipments(
    cluster: Cluster, assignments: Mapping[str, str], checkpoints: Mapping[str, Sequence[tuple[str, str]]]
) -> list[Shipment]:
    """Return what each node gets of the checkpoints {instance: (file, sha256) of each of its files}."""
    chosen = _by_node(assignments, checkpoints)
    return _to_each(cluster, {node: _checkpoints(cluster, node, ids, checkpoints) for node, ids in chosen.items()})


def _to_each(cluster: Cluster, artifacts: Mapping[str, Sequence[Any]]) -> list[Shipment]:
    """Return the shipments of {node: what it gets}, each with the first node that gets the same build."""
    first: dict[str, str] = {}
    return [
        Shipment(node, tuple(found), first.setdefault(cluster.wanted_build(node), node))
        for node, found in artifacts.items()
    ]


def _by_node(assignments: Mapping[str, str], ids: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for id in ids:
        found.setdefault(assignments[id], []).append(id)
    return found


def _checkpoints(
    cluster: Cluster, node: str, ids: Iterable[str], checkpoints: Mapping[str, Sequence[tuple[str, str]]]
) -> list[dict[str, Any]]:
    work_dir = cluster.host(node).work_dir
    return [
        {
            "name": f"checkpoint of {id}: {sha256[:12]}",
            "src": src,
            "sha256": sha256,
            "dest": names.checkpoint_file(work_dir, id, sha256),
        }
        for id in ids
        for src, sha256 in checkpoints[id]
    ]


def _artifacts(request: Request, cluster: Cluster, node: str, ids: Iterable[str]) -> list[dict[str, Any]]:
    work_dir = cluster.host(node).work_dir
    current = names.current_release_link(work_dir)
    # Immutable, named by the hash of its content; files that equal the previous release's are hard-linked, not sent.
    code = {
        "name": "code",
        "src": request.release.src,
        "dest": names.release_folder(work_dir, request.release.hash),
        "link": current,
        "link_dest": current,
    }
    packages = request.packages.get(node)
    models = {request.models[id].sha256: request.models[id] for id in ids}
    return [
        code,
        *([_packages(packages, work_dir)] if packages else []),
        *(
            {
                "name": f"model {Path(src).name}" if model.parts else f"model {model.name}",
                "src": src,
                "sha256": sha256,
                "dest": dest,
            }
            for model in models.values()
            for (src, sha256), dest in zip(
                model.files, names.model_files(work_dir, model.sha256, len(model.parts)), strict=True
            )
        ),
    ]


def _packages(packages: Packages, work_dir: str) -> dict[str, Any]:
    return {
        "name": "packages",
        "src": packages.src,
        "dest": names.packages_folder(work_dir, packages.digest),
    }
