"""From a plan to what each node is told: who knows of whom, who may reach whom."""

import json
from typing import Any

import pytest
import yaml

from fleet.launch.specs import Company, Launch, instance_hosts, workload_faults
from placement import Node, load_experiment, place

NODES = [
    Node("one", ram_gb=16, cpu_cores=4, max_instances=4),
    Node("two", ram_gb=16, cpu_cores=4, max_instances=4),
    Node("three", ram_gb=16, cpu_cores=4, max_instances=4),
]
ADDRESS = {"one": "10.0.0.1", "two": "10.0.0.2", "three": "10.0.0.3"}
VARIABLES = {"remote_work_dir": "/work", "ssh_user": "pi", "llama_cpp_builds": {"x": {}}, "llama_cpp_build": "x"}
WHERE = {"subject": "one", "near": "one", "far": "two", "other": "three"}


def load(tmp_path, *instances: dict[str, Any], **keys: Any):
    path = tmp_path / "watched.yml"
    path.write_text(
        yaml.safe_dump({"name": "watched", "instances": [{"ram_gb": 1, **one} for one in instances], **keys})
    )
    return load_experiment(path)


def specs(tmp_path, *instances: dict[str, Any]) -> dict[str, Any]:
    """Each instance's spec, placed by WHERE."""
    experiment = load(tmp_path, *instances)
    ids = [one.id for one in experiment.instances]
    plan = place(NODES, experiment.instances, strategy="greedy", pins={id: WHERE[id] for id in ids})
    models = {id: {"sha256": "a" * 64, "name": "tiny"} for id in ids}
    hostvars = {name: {**VARIABLES, "node_address": address} for name, address in ADDRESS.items()}
    hosts = instance_hosts(Launch("run", experiment, plan, "code", False, models), NODES, hostvars, {})
    return {host["instance_spec"]["id"]: host["instance_spec"] for host in hosts}


SUBJECT = {"id": "subject"}
NEAR = {"id": "near", "observes": ["subject"]}
FAR = {"id": "far", "observes": ["subject"]}
OTHER = {"id": "other", "network": "peers"}


def test_an_observed_instance_is_told_what_it_would_be_told_alone(tmp_path) -> None:
    alone = specs(tmp_path, SUBJECT)["subject"]["description"]
    assert alone["instances"] == ["subject"]
    assert alone["observes"] == {}
    observed = specs(tmp_path, SUBJECT, NEAR, FAR)["subject"]["description"]
    assert observed == alone
    assert "near" not in json.dumps(observed)


def test_an_observer_is_told_where_the_tap_is(tmp_path) -> None:
    found = specs(tmp_path, SUBJECT, NEAR, FAR)
    url = f"http://10.0.0.1:{found['subject']['description']['port']}"
    for observer in ("near", "far"):
        assert found[observer]["description"]["observes"] == {"subject": url}
        assert found[observer]["description"]["peers"] == {}
        assert found[observer]["description"]["instances"] == ["subject", "near", "far"]


def test_the_tap_hears_the_nodes_of_its_observers_and_no_other(tmp_path) -> None:
    assert specs(tmp_path, SUBJECT, FAR, OTHER)["subject"]["tap_addresses"] == ["10.0.0.1", "10.0.0.2"]
    assert specs(tmp_path, SUBJECT, NEAR, OTHER)["subject"]["tap_addresses"] == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("network", "addresses"),
    [
        ("isolated", ["localhost", "10.0.0.1"]),
        ("peers", ["localhost", "10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        ("open", None),
    ],
)
def test_an_observer_may_reach_its_subjects_node_beside_what_its_network_allows(tmp_path, network, addresses) -> None:
    found = specs(tmp_path, SUBJECT, {**FAR, "network": network}, OTHER)
    assert found["far"]["allowed_addresses"] == addresses
    assert found["subject"]["allowed_addresses"] == ["localhost"]


def test_only_what_is_observed_has_a_tap_and_a_network_of_its_own(tmp_path) -> None:
    found = specs(tmp_path, SUBJECT, NEAR, FAR, OTHER)
    assert {id: spec["units"][3:] for id, spec in found.items()} == {
        "subject": ["tap"],
        "near": [],
        "far": [],
        "other": [],
    }
    assert {id: spec["seclusion"] for id, spec in found.items()} == {
        "subject": "observed",
        "near": "beside_subject",
        "far": "none",
        "other": "none",
    }
    port = found["subject"]["description"]["ports"]
    assert found["subject"]["health"] == {
        "llama": f"http://127.0.0.1:{port['llama']}/health",
        "tap": f"http://10.0.0.1:{port['peer']}/health",
    }
    assert list(found["far"]["health"]) == ["llama"]


def test_nobody_talks_to_an_instance_that_is_observed(tmp_path) -> None:
    experiment = load(tmp_path, SUBJECT, FAR, OTHER, {"id": "fourth", "network": "peers"})
    company = Company(experiment)
    assert {one.id: company.peers_of(one) for one in experiment.instances} == {
        "subject": [],
        "far": [],
        "other": ["far", "fourth"],
        "fourth": ["far", "other"],
    }


def test_the_settings_of_a_subject_and_of_its_observer_are_checked_as_on_their_nodes(tmp_path) -> None:
    mode = {"workload": {"mode": "panopticon"}}
    assert workload_faults(load(tmp_path, SUBJECT, FAR, **mode), False, False) == []
    faults = workload_faults(load(tmp_path, SUBJECT, FAR, workload={"mode": "split_brain"}), False, False)
    assert [fault.key for fault in faults] == ["instances.subject", "instances.far"]
