"""An inventory that is too large, or that never ends, is refused clearly and never waited for."""

import time
from pathlib import Path

import pytest

from fleet.observe.cluster import Cluster
from placement import BadInput, nodes_from_hostvars, read_inventory
from placement.adapters import ansible_inventory
from placement.adapters.hostvars import MAX_NODES


@pytest.fixture
def without_ansible(monkeypatch):
    """What is too large at a glance is refused without asking Ansible, which would take hours over it."""
    monkeypatch.setattr(
        ansible_inventory.subprocess, "Popen", lambda *words, **options: pytest.fail(f"{words} was started")
    )


def refusal(path) -> str:
    with pytest.raises(BadInput) as refused:
        read_inventory(str(path))
    return str(refused.value)


@pytest.mark.usefixtures("without_ansible")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('nodes: {hosts: {"n[000000:999999]": {}}}', "n[000000:999999] names 1,000,000 hosts"),
        ("[nodes]\nn[0:999]-[0:99] ram_gb=8\n", "n[0:999]-[0:99] names 100,000 hosts"),
        ("[nodes]\nn[0:999999:2]\n", "n[0:999999:2] names 500,000 hosts"),
        (f"[nodes]\nn[0:{'9' * 5000}]\n", "names 1,000,000,000,000 hosts"),
    ],
)
def test_a_range_that_is_too_wide_is_named(tmp_path, text, expected):
    path = tmp_path / "hosts"
    path.write_text(text)
    assert expected in refusal(path)
    assert refusal(path).endswith("at most 10,000 nodes are supported")
    assert expected in refusal(tmp_path), "also in a folder"


@pytest.mark.usefixtures("without_ansible")
@pytest.mark.parametrize("line", ["    n{}: {{ram_gb: 8}}", "n{}"])
def test_a_million_nodes_in_a_generated_file_are_refused(tmp_path, line):
    path = tmp_path / "hosts.yml"
    head = "nodes:\n  hosts:\n" if ":" in line else "[nodes]\n"
    path.write_text(head + "".join(line.format(number) + "\n" for number in range(10**6)))
    assert "more than 8 MiB, 10,000 files or 500,000 lines; at most 10,000 nodes" in refusal(path)


def test_a_range_in_a_comment_or_in_a_script_is_none(tmp_path):
    (tmp_path / "hosts").write_text("# was n[0:999999]\n[nodes]\nn[1:3] ram_gb=8\n")
    script = tmp_path / "script.py"
    script.write_text('#!/bin/sh\n: "[0:999999]"\necho \'{"nodes": {"hosts": ["made"]}}\'\n')
    script.chmod(0o755)
    assert sorted(read_inventory(str(tmp_path))) == ["made", "n1", "n2", "n3"]


def test_a_script_that_never_ends_is_ended_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(ansible_inventory, "READ_SECONDS", 3)
    pid, script = tmp_path / "pid", tmp_path / "script.sh"
    script.write_text(f"#!/bin/sh\necho $$ > {pid}\nsleep 900\n")
    script.chmod(0o755)
    assert "was not done in 3 s; is it too large, or does a script in it hang?" in refusal(script)
    status = Path("/proc", pid.read_text().strip(), "stat")
    deadline = time.monotonic() + 10  # a process that was killed takes a moment to end
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.05)


def test_more_memory_than_is_allowed_is_a_refusal(tmp_path, monkeypatch):
    monkeypatch.setattr(ansible_inventory, "READ_MEMORY", 150 * 2**20)
    path = tmp_path / "hosts"
    path.write_text("[nodes]\nn[1:5000] ram_gb=8\n")
    assert "ansible-inventory cannot read it" in refusal(path)


def test_more_nodes_than_are_supported_are_one_fault():
    hostvars = {f"n{number}": {} for number in range(MAX_NODES + 1)}
    with pytest.raises(BadInput) as refused:
        nodes_from_hostvars(hostvars, source="inventory/big")
    assert [str(fault) for fault in refused.value.faults] == [
        "inventory/big: nodes: 10,001 hosts; at most 10,000 nodes are supported. Is a range such as n[00:99] too wide?"
    ]


def test_a_playbooks_nodes_are_counted_before_any_of_their_variables_is_asked_for():
    names = [f"n{number}" for number in range(MAX_NODES + 1)]
    with pytest.raises(BadInput, match="10,001 hosts"):
        Cluster.from_task_vars({"groups": {"nodes": names}, "hostvars": None})
