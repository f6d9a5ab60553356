"""The project as a whole: its inventories, its playbooks, its linter's profile."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.nodes import PACKAGES

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
# cluster_config.yaml of the specification, MULTI_NODE_ARCHITECTURE.md; rpi2 and host are in its pictures and use cases.
SPECIFIED_NODES = {
    "jetson": {"node_type": "jetson_orin", "ram_gb": 64, "gpu": True, "gpu_memory_gb": 64, "max_instances": 4},
    "rpi1": {"node_type": "raspberry_pi", "ram_gb": 8, "gpu": False, "max_instances": 1},
    "rpi2": {"node_type": "raspberry_pi", "ram_gb": 8, "gpu": False, "max_instances": 1},
    "host": {"node_type": "host", "ram_gb": 32, "max_instances": 2},
}
SPECIFIED_REACH = {
    "jetson": {
        "ansible_host": "192.168.1.100",
        "ssh_user": "jetson",
        "ssh_key_path": "~/.ssh/id_rsa",
        "remote_work_dir": "/home/jetson/brain-in-jar",
    },
    "rpi1": {
        "ansible_host": "192.168.1.101",
        "ssh_user": "pi",
        "ssh_key_path": "~/.ssh/id_rsa",
        "remote_work_dir": "/home/pi/brain-in-jar",
    },
}
SPECIFIED_CLUSTER = {
    "cluster_name": "brain-in-jar-cluster",
    "coordinator_host": "localhost",
    "peer_port_range": {"start": 9000, "end": 9100},
    "health_check": {"enabled": True, "interval_seconds": 30},
    "failover": {"enabled": True, "auto_restart": True},
}


def run(*words: str) -> str:
    done = subprocess.run([str(BIN / words[0]), *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def hostvars(inventory: str) -> dict[str, dict[str, Any]]:
    """The variables of every node as a playbook sees them."""
    listed = run("ansible-inventory", "-i", f"inventory/{inventory}", "--playbook-dir", "playbooks", "--list")
    return json.loads(listed)["_meta"]["hostvars"]


@pytest.fixture(scope="module")
def lab() -> dict[str, dict[str, Any]]:
    return hostvars("lab")


def picked(wanted: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    return {name: {key: found[name].get(key) for key in values} for name, values in wanted.items()}


def test_the_lab_has_the_specified_nodes_of_the_specified_sizes(lab: dict[str, dict[str, Any]]) -> None:
    assert set(lab) == set(SPECIFIED_NODES)
    assert picked(SPECIFIED_NODES, lab) == SPECIFIED_NODES


def test_the_lab_is_reached_as_the_specification_says(lab: dict[str, dict[str, Any]]) -> None:
    assert picked(SPECIFIED_REACH, lab) == SPECIFIED_REACH


def test_the_lab_carries_the_specified_cluster_settings(lab: dict[str, dict[str, Any]]) -> None:
    assert picked(dict.fromkeys(lab, SPECIFIED_CLUSTER), lab) == dict.fromkeys(lab, SPECIFIED_CLUSTER)


def test_the_virtual_nodes_are_the_labs_in_size() -> None:
    assert picked(SPECIFIED_NODES, hostvars("virtual")) == SPECIFIED_NODES


def test_the_linter_asks_for_the_strictest_profile_and_skips_no_rule() -> None:
    settings = yaml.safe_load((ROOT / ".ansible-lint").read_text())
    assert settings["profile"] == "production"
    assert not {"skip_list", "warn_list"} & set(settings)


def test_every_playbook_passes_the_syntax_check() -> None:
    playbooks = [*ROOT.glob("*.yml"), *(ROOT / "playbooks").glob("*.yml")]
    assert ROOT / "run_experiment.yml" in playbooks
    run("ansible-playbook", "--syntax-check", *map(str, sorted(playbooks)))


def test_the_makefile_installs_what_the_test_nodes_need() -> None:
    """It has its own list, since it installs before there is a Python to ask."""
    makefile = (ROOT / "Makefile").read_text()
    listed = makefile.split("DEBIAN := ")[1].split("CROSS :=")[0].replace("\\", " ").split()
    assert set(PACKAGES) <= set(listed)
