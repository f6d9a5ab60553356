"""What each node needs before its instances can start: the code, and the models of those instances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract import names
from contract.json_records import Record
from fleet.artifacts.packages import Packages
from fleet.intake.request import Request
from fleet.observe.cluster import Cluster


@dataclass(frozen=True)
class Shipment(Record):
    """Artifacts for one node, in the form that the action `push` takes."""

    name: str
    artifacts: tuple[Any, ...]


def shipments(
    request: Request,
    cluster: Cluster,
    assignments: Mapping[str, str] | None = None,
    checkpoints: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> list[Shipment]:
    """Return what each node of a plan {instance: node} gets; without a plan, everything for each node that answered.

    checkpoints: {instance: (file, sha256) of each file that it is resumed from}.
    """
    if assignments is None:
        chosen = {name: list(request.models) for name in cluster.names if cluster.states[name]}
    else:
        placed = dict.fromkeys(assignments.values())
        chosen = {node: [id for id, where in assignments.items() if where == node] for node in placed}
    return [
        Shipment(node, (*_artifacts(request, cluster, node, ids), *_checkpoints(cluster, node, ids, checkpoints or {})))
        for node, ids in chosen.items()
    ]


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
        for src, sha256 in checkpoints.get(id, ())
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
                "name": f"model {model.name}",
                "src": model.src,
                "sha256": sha256,
                "dest": names.model_file(work_dir, sha256),
            }
            for sha256, model in models.items()
        ),
    ]


def _packages(packages: Packages, work_dir: str) -> dict[str, Any]:
    return {
        "name": "packages",
        "src": packages.src,
        "dest": names.packages_folder(work_dir, packages.digest),
    }
