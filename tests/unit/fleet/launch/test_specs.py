"""From a plan to what each node is told: who knows of whom, who may reach whom."""

import json
from typing import Any

import pytest
import yaml

from contract.launch_spec import Inbound, LaunchSpec, Outbound
from contract.promises import PROMISES
from fleet.intake.request import ModelRef, ReleaseRef, Request
from fleet.intake.workload_settings import Peers, workload_faults
from fleet.launch.specs import entries
from fleet.observe.cluster import Cluster
from placement import load_experiment, place

ADDRESS = {"one": "10.0.0.1", "two": "10.0.0.2", "three": "10.0.0.3"}
STATE = {"status": "HEALTHY", "ram_gb": 16, "cores": 4, "promises": {"kept": dict.fromkeys(PROMISES, True)}}
VARIABLES = {
    "remote_work_dir": "/work",
    "ssh_user": "pi",
    "llama_cpp_builds": {"x": {}},
    "llama_cpp_build": "x",
    "ram_gb": 16,
    "cpu_cores": 4,
    "max_instances": 4,
    "node_probe": {"state": STATE},
}
WHERE = {"subject": "one", "near": "one", "far": "two", "other": "three"}


def load(tmp_path, *instances: dict[str, Any], **keys: Any):
    path = tmp_path / "watched.yml"
    path.write_text(
        yaml.safe_dump({"name": "watched", "instances": [{"ram_gb": 1, **one} for one in instances], **keys})
    )
    return load_experiment(path)


def specs(tmp_path, *instances: dict[str, Any], parts: tuple[str, ...] = ()) -> dict[str, LaunchSpec]:
    """Each instance's spec, placed by WHERE. parts: of its model."""
    experiment = load(tmp_path, *instances)
    ids = [one.id for one in experiment.instances]
    hostvars = {name: {**VARIABLES, "node_address": address} for name, address in ADDRESS.items()}
    cluster = Cluster.from_hostvars(hostvars)
    plan = place(
        cluster.nodes, experiment.instances, strategy="greedy", pins={id: WHERE.get(id, "three") for id in ids}
    )
    models = {id: ModelRef("a" * 64, "", "tiny", parts=parts) for id in ids}
    request = Request("watched", str(experiment.path), experiment.text, ReleaseRef("code", ""), models=models)
    made = entries("run", request, experiment, plan, cluster)
    return {entry.launch_spec.id: entry.launch_spec for entry in made}


def test_llama_server_is_started_with_the_first_part_of_a_model_and_the_instances_settings(tmp_path) -> None:
    settings = {"cache_type_k": "q8_0", "flash_attn": True}
    made = specs(tmp_path, {"id": "a", "llama": settings}, parts=("b" * 64, "c" * 64))["a"].llama_server.command
    assert made[made.index("--model") + 1].endswith(f"/models/{'a' * 64}-00001-of-00002.gguf")
    assert made[made.index("--cache-type-k") + 1] == "q8_0"
    assert made[made.index("--flash-attn") + 1] == "on"
    assert "--cache-type-v" not in made


SUBJECT = {"id": "subject"}
NEAR = {"id": "near", "observes": ["subject"]}
FAR = {"id": "far", "observes": ["subject"]}
OTHER = {"id": "other", "network": "peers"}


def test_an_observed_instance_is_told_what_it_would_be_told_alone(tmp_path) -> None:
    alone = specs(tmp_path, SUBJECT)["subject"].description
    assert alone.instances == ("subject",)
    assert alone.observes == {}
    observed = specs(tmp_path, SUBJECT, NEAR, FAR)["subject"].description
    assert observed == alone
    assert "near" not in json.dumps(observed.to_json())


def test_an_observer_is_told_of_a_way_that_leads_to_the_relay_and_nowhere_else(tmp_path) -> None:
    found = specs(tmp_path, SUBJECT, NEAR, FAR)
    for observer in ("near", "far"):
        assert found[observer].description.observes == {"subject": "http://127.0.0.1:9101"}
        port = found["subject"].description.port
        assert found[observer].outbound == (Outbound("subject", 9101, "10.0.0.1", port),)
        assert found[observer].inbound is None
        assert found[observer].description.peers == {}
        assert found[observer].description.instances == ("subject", "near", "far")


def test_peers_are_told_of_a_way_to_each_and_their_nodes_alone_may_call(tmp_path) -> None:
    found = specs(tmp_path, {**SUBJECT, "network": "peers"}, {"id": "far", "network": "peers"}, OTHER)
    assert found["subject"].description.peers == {"far": "http://127.0.0.1:9101", "other": "http://127.0.0.1:9102"}
    ports = {id: spec.description.port for id, spec in found.items()}
    assert found["subject"].outbound == (
        Outbound("far", 9101, "10.0.0.2", ports["far"]),
        Outbound("other", 9102, "10.0.0.3", ports["other"]),
    )
    assert found["subject"].inbound == Inbound(ports["subject"], ("10.0.0.2", "10.0.0.3"))
    assert {spec.workload.allowed_addresses for spec in found.values()} == {("localhost",)}


def test_an_open_instance_reaches_its_peers_on_their_nodes(tmp_path) -> None:
    found = specs(tmp_path, {"id": "far", "network": "open"}, OTHER, {"id": "near"})
    ports = {id: spec.description.port for id, spec in found.items()}
    assert found["far"].description.peers["other"] == f"http://10.0.0.3:{ports['other']}"
    assert (found["far"].inbound, found["far"].outbound) == (None, ())
    assert found["other"].inbound == Inbound(ports["other"], ("10.0.0.2",)), "an isolated one does not call"


def test_the_relay_hears_the_nodes_of_its_observers_and_no_other(tmp_path) -> None:
    assert specs(tmp_path, SUBJECT, FAR, OTHER)["subject"].relay.allowed_addresses == ("10.0.0.1", "10.0.0.2")
    assert specs(tmp_path, SUBJECT, NEAR, OTHER)["subject"].relay.allowed_addresses == ("10.0.0.1",)


@pytest.mark.parametrize("network", ["isolated", "peers", "open"])
def test_who_is_not_open_has_a_network_of_its_own(tmp_path, network) -> None:
    found = specs(tmp_path, SUBJECT, {**FAR, "network": network}, OTHER)
    assert found["far"].private_network == (network != "open")
    assert found["far"].workload.allowed_addresses == (None if network == "open" else ("localhost",))
    assert found["subject"].workload.allowed_addresses == ("localhost",)


def test_only_what_is_observed_has_a_relay(tmp_path) -> None:
    found = specs(tmp_path, SUBJECT, NEAR, FAR, OTHER)
    assert {id: list(spec.processes)[2:] for id, spec in found.items()} == {
        "subject": ["relay"],
        "near": [],
        "far": [],
        "other": [],
    }
    port = found["subject"].description.ports
    assert found["subject"].health == {
        "llama": f"http://127.0.0.1:{port['llama']}/health",
        "relay": f"http://10.0.0.1:{port['peer']}/health",
    }
    assert list(found["far"].health) == ["llama"]


def test_nobody_talks_to_an_instance_that_is_observed(tmp_path) -> None:
    experiment = load(tmp_path, SUBJECT, FAR, OTHER, {"id": "fourth", "network": "peers"})
    peers = Peers(experiment)
    assert {one.id: peers.of(one) for one in experiment.instances} == {
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
