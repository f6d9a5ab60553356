"""Predicted and measured: a node's exits in a run's memory.json; and one pool of memory counted once, to the end."""

import json
from pathlib import Path
from typing import Any

import pytest

from contract.node_state import Gpu, InstanceState, NodeState
from fleet.intake.request import ModelRef, ReleaseRef, Request
from fleet.launch.specs import entries
from fleet.observe.cluster import Cluster
from fleet.record.memory_file import predict
from fleet.record.run_folder import Run
from fleet.results import memory_use
from placement import Node, load_experiment, nodes_from_hostvars, place
from placement.adapters.gguf_memory import GB, Estimate

RUN = "x_20261123T141500Z_3f2a"
MIB = 2**20


def end(unit: str, result: str = "success", **figures: int | None) -> dict[str, Any]:
    return {"time": "t", "unit": unit, "result": result, "code": "exited", "status": "0", "memory": figures}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, RUN, {}, {})


def leave(run: Run, *ends: dict[str, Any]) -> None:
    (run.path / "logs" / "a.exits.jsonl").write_text("".join(json.dumps(each) + "\n" for each in ends))


def test_the_highest_figures_of_all_lives_count(run: Run):
    leave(
        run,
        end("llama", "signal", unit_peak=90 * MIB, slice_peak=100 * MIB, others_resident_peak=20 * MIB),
        end("workload", "signal", unit_peak=30 * MIB, slice_peak=120 * MIB, others_resident_peak=200 * MIB),
        end("workload", unit_peak=10 * MIB, slice_peak=90 * MIB, others_resident_peak=80 * MIB),
    )
    found = memory_use.measured(run.path / "logs" / "a.exits.jsonl")
    assert found == {"resident_gb": round(230 * MIB / GB, 4), "charged_gb": round(120 * MIB / GB, 4)}


def test_a_kernel_that_keeps_no_peaks_leaves_what_the_processes_had(run: Run):
    leave(run, end("workload", unit_peak=None, slice_peak=None, others_resident_peak=512 * MIB))
    assert memory_use.measured(run.path / "logs" / "a.exits.jsonl") == {"resident_gb": 0.5, "charged_gb": None}


def test_what_was_not_measured_is_null(run: Run):
    nothing = {"resident_gb": None, "charged_gb": None}
    assert memory_use.measured(run.path / "logs" / "a.exits.jsonl") == nothing
    leave(run, {"time": "t", "unit": "workload", "result": "success", "code": "exited", "status": "0"})
    assert memory_use.measured(run.path / "logs" / "a.exits.jsonl") == nothing


def test_the_prediction_and_the_peak_lie_side_by_side_and_measuring_again_changes_nothing(run: Run, tmp_path: Path):
    file = tmp_path / "x.yml"
    file.write_text("name: x\ninstances: [{id: a}, {id: b, ram_gb: 2}]")
    needs = Estimate(int(0.4 * GB), 0, int(0.1 * GB), 0, 0, 0, 0)
    predict(run, load_experiment(file).sized({"a": needs.to_json()}), {"a": needs.to_json()})
    leave(run, end("workload", unit_peak=0, slice_peak=256 * MIB, others_resident_peak=512 * MIB))
    measured = memory_use.measure(run, ["a", "b"])
    assert measured["a"] == {
        "ram_gb": 0.5,
        "declared": False,
        "predicted_gb": 0.5,
        "parts_gb": {"weights": 0.4, "repack_copy": 0.0, "kv": 0.1, "compute": 0.0, "base": 0.0, "workload": 0.0},
        "offloaded_gb": 0.0,
        "resident_gb": 0.5,
        "charged_gb": 0.25,
        "ratio": 1.0,
    }
    assert (measured["b"]["declared"], measured["b"]["predicted_gb"], measured["b"]["ratio"]) == (True, None, None)
    path = run.path / "memory.json"
    written = (path.read_bytes(), path.stat().st_mtime_ns)
    assert memory_use.measure(run, ["a"]) == {"a": measured["a"]}, "one instance alone leaves the other's figures"
    assert (path.read_bytes(), path.stat().st_mtime_ns) == written


def test_a_run_of_another_controller_has_its_peaks_without_a_prediction(run: Run):
    leave(run, end("workload", unit_peak=0, slice_peak=0, others_resident_peak=512 * MIB))
    measured = memory_use.measure(run, ["a"])["a"]
    assert (measured["predicted_gb"], measured["resident_gb"], measured["ratio"]) == (None, 0.5, None)


def test_one_pool_is_counted_once_from_the_plan_to_the_limit_on_the_node_and_back(tmp_path: Path):
    """8 GB of RAM and 12 of the GPU's on unified memory: 12 of the pool - planned, granted, limited, and allocated."""
    file = tmp_path / "x.yml"
    file.write_text("name: x\ninstances: [{id: a, ram_gb: 8, gpu: required, gpu_memory_gb: 12}]")
    experiment = load_experiment(file)
    jetson = Node("jetson", "jetson_orin", ram_gb=64, reserved_ram_gb=8, gpu=True, gpu_memory_gb=64, max_instances=4)
    plan = place([jetson], experiment.instances)
    assert plan.nodes["jetson"].allocated_ram_gb == 12
    hostvars = {
        "remote_work_dir": "/w", "ssh_user": "u", "llama_cpp_build": "b", "llama_cpp_builds": {"b": {}},
        "ram_gb": 64, "reserved_ram_gb": 8, "node_type": "jetson_orin", "gpu": True, "gpu_memory_gb": 64,
    }  # fmt: skip
    models = {"a": ModelRef("0" * 64, "", "m")}
    request = Request("x", str(file), file.read_text(), ReleaseRef("hash", ""), models=models)
    cluster = Cluster.from_hostvars({"jetson": {**hostvars, "max_instances": 4}})
    (entry,) = entries(RUN, request, experiment, plan, cluster)
    spec = entry.launch_spec
    assert spec.description.resources.takes_ram_gb == 12
    assert spec.limits.memory_bytes == 12 * GB, "the slice may use what the plan counts"
    held = InstanceState(
        RUN,
        "a",
        "RUNNING",
        ram_gb=12,
        takes_ram_gb=12,
        gpu_memory_gb=spec.description.resources.gpu_memory_gb,
        uses_gpu=True,
    )
    state = NodeState("HEALTHY", ram_gb=64, gpu=Gpu(present=True), instances=(held,))
    (again,) = nodes_from_hostvars({"jetson": hostvars}, {"jetson": state})
    assert again.allocated_ram_gb == 12
