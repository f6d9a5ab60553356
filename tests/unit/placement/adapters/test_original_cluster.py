"""The original's cluster_config.yaml becomes an inventory that Ansible reads, or every fault of it is named."""

from pathlib import Path

import pytest
import yaml
from cluster import ROOT

from placement import BadInput, nodes_from_hostvars, port_range_from_hostvars, read_inventory
from placement.adapters.original_cluster import import_cluster

SPECIFIED = """
cluster: {name: brain-in-jar-cluster, coordinator_host: localhost}
nodes:
  - {name: jetson, host: 192.168.1.100, type: jetson_orin, ram_gb: 64.0, gpu: true, gpu_memory_gb: 64.0,
     max_instances: 4, ssh_user: jetson, ssh_key_path: ~/.ssh/id_rsa, remote_work_dir: /home/jetson/brain-in-jar}
  - {name: rpi1, host: 192.168.1.101, type: raspberry_pi, ram_gb: 8.0, gpu: false, max_instances: 1, ssh_user: pi,
     ssh_key_path: ~/.ssh/id_rsa, remote_work_dir: /home/pi/brain-in-jar}
  - {name: host, host: localhost, type: host, ram_gb: 32, max_instances: 2}
network: {peer_port_range: {start: 9000, end: 9100}}
health_check: {enabled: true, interval_seconds: 30}
failover: {enabled: true, auto_restart: true}
"""


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cluster_config.yaml"
    path.write_text(text)
    return path


def test_the_specified_config_makes_the_nodes_of_the_lab(tmp_path: Path) -> None:
    made = tmp_path / "hosts.yml"
    made.write_text(import_cluster(config(tmp_path, SPECIFIED)))
    hostvars = read_inventory(str(made), ROOT)
    lab = {node.name: node for node in nodes_from_hostvars(read_inventory(str(ROOT / "inventory/lab"), ROOT))}
    for node in nodes_from_hostvars(hostvars):
        for key in ("node_type", "ram_gb", "reserved_ram_gb", "gpu", "gpu_memory_gb", "max_instances"):
            assert getattr(node, key) == getattr(lab[node.name], key), (node.name, key)
    assert hostvars["rpi1"]["ansible_host"] == "192.168.1.101"
    assert hostvars["rpi1"]["remote_work_dir"] == "/home/pi/brain-in-jar"
    assert hostvars["host"]["ansible_connection"] == "local"
    assert port_range_from_hostvars(hostvars) == (9000, 9100)
    assert hostvars["jetson"]["failover"] == {"enabled": True, "auto_restart": True}


def test_what_is_left_out_is_left_to_the_groups_and_to_what_is_measured(tmp_path: Path) -> None:
    text = import_cluster(config(tmp_path, "nodes: [{name: n, host: n.local, type: generic}]"))
    assert yaml.safe_load(text) == {"nodes": {"children": {"generic": {"hosts": {"n": {"ansible_host": "n.local"}}}}}}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nodes: []", "nodes: it is empty; give a list of at least one node"),
        (
            "nodes: [{name: n, host: h, type: laptop}]",
            "nodes[0].type: 'laptop' is none of these; give one of jetson_orin",
        ),
        ("nodes: [{name: n, type: host}]", "nodes[0].host: missing; give its address or host name, as text"),
        (
            "nodes: [{name: n, host: h, type: host, ram: 8}]",
            "nodes[0].ram: no key is named 'ram'; did you mean 'ram_gb'?",
        ),
        (
            "nodes: [{name: n, host: h, type: host}, {name: n, host: i, type: host}]",
            "nodes.n: 2 nodes have this name; give each its own",
        ),
        (
            "nodes: [{name: n, host: h, type: host, gpu_memory_gb: 8, gpu: false}]",
            "nodes.n.gpu_memory_gb: 8 without a GPU; add gpu: true, or leave it out",
        ),
        (
            "nodes: [{name: n, host: h, type: host}]\nnetwork: {peer_port_range: {start: 9100, end: 9000}}",
            "peer_port_range: start 9100 is above end 9000; swap them",
        ),
        ("nodes: [", "not valid YAML"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(BadInput) as bad:
        import_cluster(config(tmp_path, text))
    assert fault in str(bad.value)
