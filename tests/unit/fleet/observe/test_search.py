"""Which run a command means, when none is named: the newest one, or none where that cannot be told."""

from pathlib import Path
from typing import Any

import pytest

from contract.events import Resumed
from fleet.base.errors import SearchError
from fleet.observe.cluster import Cluster
from fleet.observe.search import FoundRun, find_run
from fleet.record.run_folder import LATEST, Run, list_runs

OLD, NEW = "x_20261123T141500Z_aaaa", "x_20261124T141500Z_bbbb"
VARIABLES = {"ssh_user": "pi", "remote_work_dir": "/w"}


def node(*runs: str) -> dict[str, Any]:
    instances = [{"run_id": run_id, "id": "a", "status": "RUNNING"} for run_id in runs]
    return {**VARIABLES, "node_probe": {"state": {"status": "HEALTHY", "ram_gb": 8, "instances": instances}}}


def find(runs_dir: Path, run_id: str = LATEST, acts: bool = True, **nodes: Any) -> FoundRun:
    return find_run(Cluster.from_hostvars(nodes), run_id, "", list_runs(runs_dir), acts=acts)


def record(runs_dir: Path, run_id: str, on: str) -> None:
    Run.create(runs_dir, run_id, {}, {"assignments": {"a": on}})


def test_the_newest_run_is_found(tmp_path: Path) -> None:
    assert find(tmp_path, n1=node(OLD, NEW), n2=node(OLD)).run_id == NEW


def test_while_a_node_is_silent_a_run_is_changed_only_by_its_name(tmp_path: Path) -> None:
    record(tmp_path, NEW, "n2")
    nodes = {"n1": node(OLD), "n2": VARIABLES}
    with pytest.raises(SearchError, match=rf"n2 did not answer.*-e run=<run_id>.*{OLD}, {NEW}"):
        find(tmp_path, **nodes)
    assert find(tmp_path, OLD, **nodes).run_id == OLD
    with pytest.raises(SearchError, match=f"{NEW}, the newest run here, is on no node: n2 did not answer"):
        find(tmp_path, acts=False, **nodes)


def test_a_run_that_was_never_started_is_the_newest_and_no_older_one_is_taken_for_it(tmp_path: Path) -> None:
    record(tmp_path, NEW, "n1")
    with pytest.raises(SearchError, match=f"{NEW}, the newest run here, is on no node: it was not started"):
        find(tmp_path, n1=node(OLD))


def test_a_damaged_record_is_no_run_of_this_cluster(tmp_path: Path) -> None:
    record(tmp_path, NEW, "n1")
    (tmp_path / NEW / "plan.json").write_text("{")
    assert find(tmp_path, n1=node(OLD)).run_id == OLD


def test_the_record_of_another_cluster_does_not_count(tmp_path: Path) -> None:
    record(tmp_path, NEW, "elsewhere")
    assert find(tmp_path, n1=node(OLD)).run_id == OLD


def test_what_is_left_of_an_earlier_epoch_does_not_stand_for_one_on_a_silent_node(tmp_path: Path) -> None:
    record(tmp_path, NEW, "n1")
    nodes = {"n1": node(NEW), "n2": VARIABLES}
    assert [one.name for one in find(tmp_path, NEW, **nodes).entries] == ["a@n1"]
    Run(tmp_path / NEW).append(Resumed("a", 2, "n2"))
    with pytest.raises(SearchError, match="n2 did not answer"):
        find(tmp_path, NEW, **nodes)
    cluster, runs = Cluster.from_hostvars(nodes), list_runs(tmp_path)
    assert [one.name for one in find_run(cluster, NEW, "", runs, earlier=True).entries] == ["a@n1"]
