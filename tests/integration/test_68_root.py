"""A node whose SSH user may run one program as root and nothing else: everything works, and nothing else is allowed."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.names import NODE_PROGRAM
from tests.integration.conftest import Project, eventually, on, own_program
from tests.nodes import Cluster

NODE, WORK_DIR = "rpi2", "/srv/jarfleet"
RULES = {"owner": "jar", "work_dir": WORK_DIR, "ports": [9000, 9100], "memory_gb": 4}
PLACE = ("-e", f"remote_work_dir={WORK_DIR}")
RIGHTS = "/etc/sudoers.d/jar"
REF = {"run_id": "x_20261123T141500Z_3f2a", "id": "a", "node": NODE, "work_dir": WORK_DIR, "owner": "jar"}
PROGRAM = """
import time
from workload import Instance
mind = Instance.load()
(mind.dir / "progress.json").write_text("{}")
print("IT LIVES", flush=True)
time.sleep(900)
"""


@pytest.fixture(scope="module")
def narrow(project: Project, cluster: Cluster) -> Iterator[str]:
    """The node with the narrow rights, and rules; the sha256 of its program. As it was after the tests."""
    project.play("playbooks/deploy.yml", "-e", "experiment=split_brain", "--limit", f"localhost,{NODE}")
    digest = on(cluster, NODE, "sha256sum", NODE_PROGRAM).split()[0]
    wide = on(cluster, NODE, "cat", RIGHTS)
    right = f'jar ALL=(root) NOPASSWD: sha256:{digest} {NODE_PROGRAM} ""'
    on(cluster, NODE, "sh", "-c", f"echo '{right}' > {RIGHTS}; mkdir -p /etc/jarfleet; rm -rf /opt/llama.cpp")
    on(cluster, NODE, "sh", "-c", f"echo '{json.dumps(RULES)}' > /etc/jarfleet/node.json")
    yield digest
    on(cluster, NODE, "sh", "-c", f"echo '{wide}' > {RIGHTS}; rm -rf /etc/jarfleet {WORK_DIR}")
    project.play("playbooks/deploy.yml", "-e", "experiment=split_brain", "--limit", f"localhost,{NODE}")


def as_jar(cluster: Cluster, command: str) -> str:
    """What a command of the SSH user's prints, with its exit status."""
    return on(cluster, NODE, "runuser", "-u", "jar", "--", "sh", "-c", f"({command}) 2>&1; echo exit $?")


def asked(cluster: Cluster, verb: str, given: dict[str, Any]) -> str:
    """What the program answers to the SSH user."""
    call = json.dumps({"verb": verb, "given": given})
    quoted = call.replace("'", "'\\''")
    return as_jar(cluster, f"printf '%s\\n' '{quoted}' | sudo -n {NODE_PROGRAM}")


def test_a_whole_run_works_from_the_sending_of_llama_cpp_to_the_results(
    project: Project, cluster: Cluster, tmp_path: Path, narrow: str
) -> None:
    experiment = tmp_path / "narrow.yml"
    experiment.write_text(yaml.safe_dump({"name": "narrow", "instances": [{"id": "solo", "ram_gb": 0.5}]}))
    words = [*own_program(tmp_path, PROGRAM), "-e", f"placement=solo:{NODE}", "-e", "detach=true", *PLACE]
    project.run(experiment, *words)
    run = ("-e", f"run={project.newest()}", *PLACE)
    assert re.search(r"solo +rpi2 +RUNNING", project.play("playbooks/status.yml", *run).output)
    logs = project.play("playbooks/logs.yml", *run, "-e", "instance=solo", "-e", "follow=false").output
    assert "IT LIVES" in logs
    forward = project.start("playbooks/forward.yml", *run, "-e", "instance=solo", "-e", "seconds=10")
    eventually("it is forwarded", lambda: forward.printed("http://127.0.0.1:"))
    url = re.search(r"http://127\.0\.0\.1:\d+", forward.output)[0]
    with urllib.request.urlopen(f"{url}/health") as answer:  # noqa: S310 - see above
        assert json.load(answer) == {"status": "ok"}
    project.play("playbooks/stop.yml", *run)
    project.play("playbooks/fetch.yml", *run)
    assert project.events(project.newest(), "collected")[-1]["statuses"] == {"solo": "STOPPED"}
    assert (
        on(cluster, NODE, "stat", "-c", "%U", "/opt/llama.cpp", WORK_DIR, f"{WORK_DIR}/instances").split()
        == ["root"] * 3
    )
    forward.finish(code=None)


COMMANDS = [
    "sudo -n id",
    "sudo -n /bin/sh -c id",
    f"sudo -n {NODE_PROGRAM} guard / 1",
    f"sudo -n {NODE_PROGRAM} started / workload",
    f"sudo -n /usr/bin/python3 -I {NODE_PROGRAM}",
    f"sudo -n PYTHONPATH=/srv {NODE_PROGRAM} < /dev/null",
    f"sudo -n -u jarfleet01 {NODE_PROGRAM}",
    "sudo -n systemctl stop ssh",
]


def test_nothing_else_is_run_as_root(cluster: Cluster, narrow: str) -> None:
    said = {command: as_jar(cluster, command) for command in COMMANDS}
    refused = re.compile("password is required|not allowed|sorry")
    assert {command: text for command, text in said.items() if "exit 0" in text or not refused.search(text)} == {}
    assert [command for command, text in said.items() if "uid=0" in text] == []


def test_a_program_that_was_changed_is_not_run(cluster: Cluster, narrow: str) -> None:
    path = on(cluster, NODE, "readlink", NODE_PROGRAM).strip()
    on(cluster, NODE, "sh", "-c", f"cp -p {path} /root/program; echo >> {path}")
    try:
        assert "password is required" in asked(cluster, "promises", {})
    finally:
        on(cluster, NODE, "sh", "-c", f"cp -p /root/program {path}")
    assert '"memory_limit": true' in asked(cluster, "promises", {})


def spec(**changes: Any) -> dict[str, Any]:
    """A launch spec that this node would take, but for the changes."""
    folder = f"{WORK_DIR}/instances/{REF['run_id']}/a"
    model = {"path": f"{WORK_DIR}/models/{'a' * 64}.gguf", "sha256": "a" * 64}
    described = {
        "run_id": REF["run_id"], "id": "a", "dir": folder, "llama_url": "http://127.0.0.1:9001", "node": NODE,
        "ports": {"peer": 9000, "llama": 9001}, "model": model, **changes.pop("description", {}),
    }  # fmt: skip
    release = f"{WORK_DIR}/releases/{'b' * 20}"
    return {
        "description": described, "work_dir": WORK_DIR, "release_dir": release, "owner": "jar", "restart": False,
        "workload": {"command": ["/bin/true"], "working_dir": release}, "private_network": True,
        "llama_server": {"command": ["x"], "working_dir": folder},
        "limits": {"memory_bytes": 2**29, "cpu_percent": 100}, **changes,
    }  # fmt: skip


START = {"llama_cpp": f"/opt/llama.cpp/{'c' * 20}"}


BEYOND = [
    ("stop", {"instance_ref": {**REF, "work_dir": "/home/jar/brain-in-jar"}}),
    ("stop", {"instance_ref": {**REF, "work_dir": "/"}}),
    ("stop", {"instance_ref": {**REF, "owner": "root"}}),
    ("stop", {"instance_ref": {**REF, "run_id": "../../etc"}}),
    ("collect", {"instance_ref": {**REF, "id": "../x"}}),
    ("logs", {"instance_ref": {**REF, "run_id": "x --file=/etc/shadow"}}),
    ("connect", {"instance_ref": {**REF, "work_dir": "/srv/x"}}),
    ("prepare", {"work_dir": "/etc/cron.d", "owner": "jar"}),
    ("prepare", {"work_dir": "/home/jar/brain-in-jar", "owner": "jar"}),
    ("start", {"launch_spec": spec(work_dir="/home/jar/x"), **START}),
    ("start", {"launch_spec": spec(owner="root"), **START}),
    ("start", {"launch_spec": spec(release_dir="/srv/evil"), **START}),
    ("start", {"launch_spec": spec(description={"model": {"path": "/etc/shadow", "sha256": "a"}}), **START}),
    ("start", {"launch_spec": spec(description={"dir": "/etc"}), **START}),
    ("start", {"launch_spec": spec(description={"ports": {"peer": 22, "llama": 23}}), **START}),
    ("start", {"launch_spec": spec(limits={"memory_bytes": 2**40, "cpu_percent": 1}), **START}),
    ("start", {"launch_spec": spec(health={"llama": "http://169.254.169.254:9001/"}), **START}),
    ("start", {"launch_spec": spec(health={"llama": "http://127.0.0.1:22/"}), **START}),
    ("start", {"launch_spec": spec(health={"llama": "file:///etc/shadow"}), **START}),
    ("start", {"launch_spec": spec(), "llama_cpp": "/home/jar/evil"}),
    ("start", {"launch_spec": spec(), "llama_cpp": f"/opt/llama.cpp/../../home/jar/{'c' * 20}"}),
    ("start", {"launch_spec": spec(), **START, "credentials": {"workload": {"keys": []}}}),
    ("install", {"work_dir": WORK_DIR, "owner": "jar", "items": [
        {"name": "x", "dest": "/etc/sudoers.d/evil", "root_owned": True}]}),
    ("install", {"work_dir": WORK_DIR, "owner": "jar", "items": [
        {"name": "x", "dest": f"/opt/jarfleet/{'a' * 64}.pyz", "link": NODE_PROGRAM, "root_owned": True}]}),
    ("install", {"work_dir": WORK_DIR, "owner": "jar", "items": [
        {"name": "x", "dest": f"{WORK_DIR}/models/x.gguf", "root_owned": False}]}),
    ("shell", {"command": "id"}),
    ("start", {}),

]  # fmt: skip


def test_a_call_beyond_the_rules_is_refused(cluster: Cluster, narrow: str) -> None:
    changed = ("find", "/etc", "/opt", "/srv", "-newer", NODE_PROGRAM)
    before = on(cluster, NODE, *changed)
    said = [(verb, given, asked(cluster, verb, given)) for verb, given in BEYOND]
    assert [one for one in said if "exit 1" not in one[2] or "Traceback" in one[2]] == []
    assert on(cluster, NODE, *changed) == before


def test_a_work_dir_below_a_folder_of_somebody_elses_is_refused(cluster: Cluster, narrow: str) -> None:
    on(cluster, NODE, "mkdir", "-p", WORK_DIR)
    on(cluster, NODE, "chown", "jar", WORK_DIR)
    try:
        said = asked(cluster, "prepare", {"work_dir": WORK_DIR, "owner": "jar"})
        assert "can be changed by others than root" in said
    finally:
        on(cluster, NODE, "chown", "root", WORK_DIR)


def test_what_is_not_a_call_is_answered_and_ends(cluster: Cluster, narrow: str) -> None:
    for text in ("", "x", "[]", "null", '{"verb": 1}', "{" * 100_000):
        said = as_jar(cluster, f"printf '%s\\n' '{text}' | sudo -n {NODE_PROGRAM}")
        assert "exit 1" in said
        assert "Traceback" not in said


def test_a_node_whose_program_is_of_another_version_is_named_with_the_cure(
    project: Project, cluster: Cluster, narrow: str
) -> None:
    """Its rights are for the program that it has: this user cannot bring another."""
    link, path = NODE_PROGRAM, on(cluster, NODE, "readlink", NODE_PROGRAM).strip()
    other = f"/opt/jarfleet/{'0' * 64}.pyz"
    on(cluster, NODE, "sh", "-c", f"cp -p {path} {other}; ln -sfn {other} {link}")
    try:
        played = project.run("split_brain", "-e", f"placement=a:{NODE}", *PLACE, code=None)
        assert played.code != 0
        assert f"{NODE}: Send the node its program: FAILED" in played.output
        assert "DEGRADED, not HEALTHY" in played.output
        assert "its program is another version's" in project.play("playbooks/status.yml").output
    finally:
        on(cluster, NODE, "sh", "-c", f"ln -sfn {path} {link}; rm {other}")
