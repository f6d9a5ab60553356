"""Which packages each node gets: by its Python, its processor and its C library; and which nodes cannot have them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract.statuses import DEGRADED
from fleet.artifacts import packages
from fleet.artifacts.packages import Kind, Packages
from fleet.base.errors import ReleaseError
from fleet.intake.request import ReleaseRef, ReplayOf, Request
from fleet.launch import packing
from fleet.observe.cluster import Cluster

NODE = {"ssh_user": "pi", "remote_work_dir": "/w", "ram_gb": 8}
KINDS = {"pi1": ("3.11.2", "aarch64"), "pi2": ("3.11.9", "aarch64"), "jetson": ("3.8.10", "aarch64")}
FOR_PI = Packages("d" * 20, "/cache/packages/d", ("numpy==2.2.0 --hash=sha256:00",))


@pytest.fixture
def cluster() -> Cluster:
    def answers(python: str, machine: str) -> dict[str, Any]:
        return {"node_probe": {"state": {"status": "HEALTHY", "python": python, "machine": machine, "libc": "2.36"}}}

    return Cluster.from_hostvars({"silent": NODE, **{name: {**NODE, **answers(*of)} for name, of in KINDS.items()}})


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/requirements.txt").write_text("numpy\n")
    return Request("x", "x.yml", "", ReleaseRef("h", str(tmp_path), source="/mine"))


@pytest.fixture(autouse=True)
def index(monkeypatch: pytest.MonkeyPatch) -> list[Kind]:
    """An index with wheels for Python 3.11 only; the kinds that were asked for."""
    asked: list[Kind] = []

    def resolve(text: str, kind: Kind, cache: Path, *, check: bool = False) -> Packages:
        asked.append(kind)
        if kind.python != "3.11":
            raise ReleaseError("No matching distribution found for numpy")
        return FOR_PI

    monkeypatch.setattr(packing, "resolve", resolve)
    monkeypatch.setattr(packages, "resolve", resolve)
    return asked


def test_nodes_of_a_kind_get_the_same_and_one_without_wheels_is_named_and_degraded(
    cluster: Cluster, request_: Request, tmp_path: Path
) -> None:
    packed = packing.pack(request_, cluster, tmp_path)
    assert packed.request.packages == {"pi1": FOR_PI, "pi2": FOR_PI}
    assert packed.table == "packages for Python 3.11 on aarch64 with glibc 2.36: numpy==2.2.0"
    assert packed.warnings == (
        "jetson: no packages for Python 3.8 on aarch64 with glibc 2.36: No matching distribution found for numpy",
    )
    seen = cluster.degraded(packed.request.without_packages)
    assert seen.statuses == {"silent": "UNAVAILABLE", "pi1": "HEALTHY", "pi2": "HEALTHY", "jetson": DEGRADED}
    assert "No matching distribution found for numpy" in seen.states["jetson"].reasons[0]
    assert Request.from_json(packed.request.to_json(), "request") == packed.request


def test_where_no_node_can_have_them_there_is_no_plan(request_: Request, cluster: Cluster, tmp_path: Path) -> None:
    only = replace(cluster, hostvars={"jetson": NODE}, states={"jetson": cluster.states["jetson"]})
    with pytest.raises(ReleaseError, match=r"jetson: no packages for Python 3\.8"):
        packing.pack(request_, only, tmp_path)


def test_without_a_requirements_file_nothing_is_asked(
    cluster: Cluster, request_: Request, tmp_path: Path, index: list[Kind]
) -> None:
    (tmp_path / "code/requirements.txt").unlink()
    for request in (request_, replace(request_, release=ReleaseRef("h", str(tmp_path)))):
        assert packing.pack(request, cluster, tmp_path).request == request
    assert index == []


def test_a_replay_has_what_its_record_names_and_only_where_it_had_it(
    cluster: Cluster, request_: Request, tmp_path: Path
) -> None:
    recorded = replace(FOR_PI, src="")
    replay = replace(request_, packages={"pi1": recorded}, replay=ReplayOf("r", {}, {}, {}, {}))
    kept = tmp_path / "packages" / FOR_PI.digest
    kept.mkdir(parents=True)
    assert packing.pack(replay, cluster, tmp_path).request.packages == {"pi1": replace(FOR_PI, src=str(kept))}
    of_before = replace(
        replay, packages={}
    )  # a run from before packages were sent had none, whatever lay beside its code
    assert packing.pack(of_before, cluster, tmp_path).request.packages == {}
