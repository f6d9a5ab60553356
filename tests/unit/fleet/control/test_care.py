"""Which runs the control loop looks after, and the reason that a launch gives when it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.control.care import care_of, launched
from fleet.control.desired_store import DesiredStore
from fleet.control.loop_file import LoopFile, NodeToAttend, folder_of
from fleet.control.one_at_a_time import held
from fleet.intake.request import ReleaseRef, Request, ResumeOf
from fleet.observe.cluster import Cluster

RUN = "x_20261123T141500Z_aaaa"
EXPERIMENT = "name: x\nmodel: {path: m.gguf}\ninstances: [{id: a, ram_gb: 1}]\n"
BUILT_IN, OWN = ReleaseRef("h", ""), ReleaseRef("h", "", source="/mine")


def cluster(**settings: object) -> Cluster:
    return Cluster.from_hostvars({"n": {"cluster_name": "lab", "failover": settings}})


def request(more: str = "", release: ReleaseRef = BUILT_IN) -> Request:
    return Request("x", "x.yml", EXPERIMENT + more, release)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    node = NodeToAttend(("false",), "/w", "jar", 90.0, 95.0)
    LoopFile("lab", "/p", (), {"n": node}, 30.0, 300.0, 50.0, "me", 7).write(folder_of("lab"))
    return folder_of("lab")


@pytest.fixture
def runs(folder: Path) -> Iterator[None]:
    """The loop runs."""
    with held(folder) as announce:
        announce()
        yield


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    "given",
    [request(), request("movable: true\n", OWN), request("state: ['s/**']\n", OWN)],
    ids=["the built-in workload", "as it says itself", "a program that declares its state"],
)
def test_it_is_looked_after(folder: Path, given: Request) -> None:
    care = care_of(cluster(), given)
    assert care.folder == folder
    assert "without the loop it stops after 40 s" in care.words
    care.look_after(RUN, Path("/runs"), {"a": ("n", 1)}, "lab")
    launched(RUN, "lab", started=True)
    assert DesiredStore(folder).read().runs[RUN].launched


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("given", "settings", "why"),
    [
        (request(), {"enabled": False}, "failover.enabled is false"),
        (request("movable: false\n"), {}, "movable is false"),
        (request("", OWN), {}, "its program declares no state"),
    ],
)
def test_it_is_not_looked_after(given: Request, settings: dict[str, object], why: str) -> None:
    care = care_of(cluster(**settings), given)
    assert care.folder is None
    assert why in care.words
    care.look_after(RUN, Path("/runs"), {"a": ("n", 1)}, "lab")


def test_without_a_loop_or_with_one_for_other_nodes_it_is_autonomous(folder: Path) -> None:
    assert "no control loop runs" in care_of(cluster(), request()).words
    with held(folder):
        other = Cluster.from_hostvars({"m": {"cluster_name": "lab"}})
        assert "was started for other nodes" in care_of(other, request()).words


@pytest.mark.usefixtures("runs")
def test_it_is_not_looked_after_where_the_loop_does_not_hear_of_a_node(folder: Path) -> None:
    DesiredStore(folder).links({"n": "it is attended by another"})
    assert care_of(cluster(), request()).folder, "a node that is silent gets nothing anyway"
    state = {"status": "HEALTHY", "promises": {"kept": {}}}
    heard = Cluster.from_hostvars({"n": {"cluster_name": "lab", "node_probe": {"state": state}}})
    care = care_of(heard, request())
    assert care.folder is None
    assert "the control loop does not hear of n: it is attended by another" in care.words


def test_what_the_loop_moves_stays_its_own_when_it_is_killed_meanwhile(folder: Path) -> None:
    store = DesiredStore(folder)
    store.take_up(RUN, Path("/runs"), {"a": ("n", 1), "b": ("n", 1)})
    moved = replace(request(), resumes=ResumeOf(RUN, {"a": 2, "b": 2}))
    assert care_of(cluster(), moved).folder is None, "a person may have all of it go on without a loop"
    beside = replace(request(), resumes=ResumeOf(RUN, {"b": 2}, stays={"a": {"peer": 9000}}))
    assert care_of(cluster(), beside).folder == folder, "the other one lives by its leases"
    store.acting(RUN, "moves")
    assert care_of(cluster(), moved).folder == folder
    assert care_of(cluster(), replace(moved, resumes=ResumeOf("another", {"a": 2}))).folder is None


@pytest.mark.usefixtures("runs")
def test_a_launch_that_failed_is_forgotten_and_a_resumption_that_failed_is_not(folder: Path) -> None:
    care = care_of(cluster(), request())
    care.look_after(RUN, Path("/runs"), {"a": ("n", 1)}, "lab")
    launched(RUN, "lab", started=False)
    assert DesiredStore(folder).read().runs == {}
    care.look_after(RUN, Path("/runs"), {"a": ("n", 2)}, "lab")
    launched(RUN, "lab", started=False)
    assert RUN in DesiredStore(folder).read().runs
