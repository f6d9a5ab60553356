"""What a loop that takes over finds on the nodes: runs that act by leases, with a record here or without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fleet.control.desired_store import DesiredStore
from fleet.control.takeover import found_to_take_up, without_record
from fleet.observe.cluster import Cluster
from fleet.record.run_folder import Run

RUN = "x_20261123T141500Z_aaaa"


def cluster(**instance: Any) -> Cluster:
    one = {"run_id": RUN, "id": "a", "status": "RUNNING", "epoch": 1, "leased": True, **instance}
    return Cluster.from_hostvars({"n1": {"node_probe": {"state": {"status": "HEALTHY", "instances": [one]}}}})


def test_a_run_without_a_record_is_looked_after_and_cannot_be_moved(tmp_path: Path) -> None:
    (taken,) = found_to_take_up(DesiredStore(tmp_path / "loop"), cluster(), tmp_path / "runs")
    assert (taken.run_id, taken.places) == (RUN, {"a": "n1"})
    record = tmp_path / "runs" / RUN
    assert taken.words(tmp_path / "runs") == (
        f"{RUN} is looked after from now on: a on n1;"
        f" to be moved it needs its record: copy that of the other controller over {record}"
    )


def test_a_record_is_sought_for_what_acts_by_leases_and_has_none_here(tmp_path: Path) -> None:
    assert without_record(cluster(), tmp_path) == [RUN]
    assert without_record(cluster(leased=False), tmp_path) == []
    assert without_record(cluster(status="STOPPED"), tmp_path) == []
    Run.create(tmp_path, RUN, {"experiment": "x", "recovered_from_nodes": True}, {"assignments": {"a": "n1"}})
    assert without_record(cluster(), tmp_path) == [RUN], "what was made from nodes is not the record"


def test_with_its_record_a_run_is_taken_up_whole(tmp_path: Path) -> None:
    Run.create(tmp_path, RUN, {"experiment": "x"}, {"assignments": {"a": "n1", "b": "n2"}})
    assert without_record(cluster(), tmp_path) == []
    (taken,) = found_to_take_up(DesiredStore(tmp_path / "loop"), cluster(), tmp_path)
    assert taken.places == {"a": "n1", "b": "n2"}
    assert taken.words(tmp_path) == f"{RUN} is looked after from now on: a on n1, b on n2"
