"""Whether a run has ended, as far as its nodes and its record tell: nothing runs twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contract.events import Collected, Launched, Resumed
from fleet.base.errors import ResumeRejected
from fleet.launch.resuming import ended
from fleet.observe.cluster import Cluster
from fleet.record.run_folder import Run

RUN = "x_20261123T141500Z_aaaa"
VARIABLES = {"ssh_user": "pi", "remote_work_dir": "/w"}


def node(*instances: tuple[str, str, int]) -> dict[str, Any]:
    states = [{"run_id": RUN, "id": id, "status": status, "epoch": epoch} for id, status, epoch in instances]
    return {**VARIABLES, "node_probe": {"state": {"status": "HEALTHY", "ram_gb": 8, "instances": states}}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.create(tmp_path, RUN, {}, {"assignments": {"a": "n1", "b": "n2"}})
    made.append(Launched("a@n1", "RUNNING"))
    made.append(Launched("b@n2", "RUNNING"))
    return made


def found(run: Run, gone: str = "", **nodes: Any) -> list[str]:
    return [one.name for one in ended(run, Cluster.from_hostvars(nodes), gone.split())]


def why(run: Run, gone: str = "", **nodes: Any) -> list[str]:
    with pytest.raises(ResumeRejected) as error:
        found(run, gone, **nodes)
    return error.value.reasons


def test_what_has_ended_is_found_where_it_is(run: Run) -> None:
    assert found(run, n1=node(("a", "STOPPED", 1)), n2=node(("b", "FAILED", 1))) == ["a@n1", "b@n2"]


def test_of_one_that_was_resumed_elsewhere_the_newest_epoch_counts(run: Run) -> None:
    run.append(Resumed("a", 2, "n2"))
    nodes = {"n1": node(("a", "STOPPED", 1)), "n2": node(("b", "STOPPED", 1), ("a", "COMPLETED", 2))}
    assert found(run, **nodes) == ["b@n2", "a@n2"]


def test_one_that_is_alive_stands_against_it(run: Run) -> None:
    (reason,) = why(run, n1=node(("a", "CRASHED", 1)), n2=node(("b", "STOPPED", 1)))
    assert reason == f"a is CRASHED on n1; stop the run first: ansible-playbook playbooks/stop.yml -e run={RUN}"


def test_an_earlier_epoch_that_is_alive_still_stands_against_it(run: Run) -> None:
    run.append(Resumed("a", 2, "n2"))
    (reason,) = why(run, n1=node(("a", "RUNNING", 1)), n2=node(("b", "STOPPED", 1), ("a", "STOPPED", 2)))
    assert reason.startswith("a is RUNNING on n1")


def test_a_silent_node_may_still_run_it(run: Run) -> None:
    (reason,) = why(run, n1=node(("a", "STOPPED", 1)), n2=VARIABLES)
    assert reason.startswith("b may still run on n2, which does not answer")
    run.append(Resumed("a", 2, "n2"))
    assert [one[:20] for one in why(run, n1=node(("a", "STOPPED", 1)), n2=VARIABLES)] == [
        "a may still run on n", "b may still run on n",
    ]  # fmt: skip


def test_a_silent_node_has_said_that_it_ended(run: Run) -> None:
    run.append(Collected({"a": "STOPPED", "b": "STOPPED"}))
    assert found(run, n1=node(("a", "STOPPED", 1)), n2=VARIABLES) == ["a@n1"]
    run.append(Resumed("b", 2, "n2"))  # and was started again since
    assert why(run, n1=node(("a", "STOPPED", 1)), n2=VARIABLES)


def test_a_node_that_answers_and_has_nothing_of_it_runs_nothing_of_it(run: Run) -> None:
    assert found(run, n1=node(("a", "STOPPED", 1)), n2=node()) == ["a@n1"]


def test_a_person_knows_that_a_node_is_off_and_no_node_that_answers_is(run: Run) -> None:
    nodes = {"n1": node(("a", "STOPPED", 1)), "n2": VARIABLES}
    assert found(run, "n2", **nodes) == ["a@n1"]
    assert why(run, "n1 n2", **nodes) == ["gone=n1: it answers; stop the run there"]
    assert why(run, "n2 n9", **nodes) == ["gone=n9: no such node; there are n1, n2"]
