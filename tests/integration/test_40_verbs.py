"""Every verb on real nodes: health_check, status, deploy, logs, stop, fetch, forward; detach and monitor_duration."""

import json
import re
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.integration.conftest import Project, eventually, on, own_program, write_experiment
from tests.integration.test_30_crashes import main_pid
from tests.nodes import Cluster


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """split_brain that would run for hours."""
    return write_experiment(tmp_path, name="endless", workload={"rounds": 1000, "pause_seconds": 3})


def test_all_nodes_are_healthy(project: Project) -> None:
    assert project.play("playbooks/health_check.yml").output.count("HEALTHY") == 4


def test_a_dead_node_is_unavailable_in_seconds_and_the_run_goes_on_without_it(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.power_cut("rpi1")
    checked = project.play("playbooks/health_check.yml", code=2)
    assert re.search(r"rpi1 +raspberry_pi +UNAVAILABLE", checked.output)
    played = project.run(write_experiment(tmp_path, name="without", workload={"rounds": 2}))
    assert project.events(played.run_id, "placed")[0]["assignments"] == {"a": "jetson", "b": "rpi2"}


@pytest.mark.slow
def test_a_node_cut_off_does_not_hang_the_check(project: Project, cluster: Cluster) -> None:
    cluster.cut("rpi2")
    checked = project.play("playbooks/health_check.yml", code=2)
    assert re.search(r"rpi2 +raspberry_pi +UNAVAILABLE", checked.output)
    assert float(re.findall(r", ([\d.]+) s\)", checked.output)[-1]) < 30


def test_a_node_whose_memory_is_full_is_degraded_and_gets_no_instance(project: Project, cluster: Cluster) -> None:
    hoard = "import time; hoard = b'x' * (930 << 20); time.sleep(600)"
    on(cluster, "rpi1", "systemd-run", "--quiet", "--unit=ballast", "python3", "-c", hoard)
    try:
        eventually("it fills up", lambda: available_mb(cluster, "rpi1") < 90)
        checked = project.play("playbooks/health_check.yml", code=2)
        assert re.search(r"rpi1 +raspberry_pi +DEGRADED .*memory is 9\d % used", checked.output)
        planned = project.play("playbooks/plan.yml", "-e", "experiment=split_brain")
        assert re.search(r"b +rpi2 ", planned.output)
    finally:
        on(cluster, "rpi1", "systemctl", "stop", "ballast")


def test_maintenance_is_a_persons_word_and_no_check_overrides_it(project: Project) -> None:
    """The word comes from a second inventory source, as a person would add it."""
    source = project.runs.parent / "maintenance.yml"
    source.write_text("nodes: {hosts: {rpi1: {node_maintenance: true}}}\n")
    inventories = ("-i", "inventory/virtual", "-i", str(source))
    checked = project.play("playbooks/health_check.yml", *inventories)
    assert re.search(r"rpi1 +raspberry_pi +MAINTENANCE", checked.output)
    planned = project.play("playbooks/plan.yml", "-e", "experiment=split_brain", *inventories)
    assert re.search(r"b +rpi2 ", planned.output)


def test_deploy_prepares_every_node_and_twice_changes_nothing(project: Project, cluster: Cluster) -> None:
    project.play("playbooks/deploy.yml", "-e", "experiment=split_brain")
    for node in ("jetson", "rpi1", "rpi2", "host"):
        assert on(cluster, node, "sh", "-c", "ls -d /opt/llama.cpp/*/bin/llama-server").strip()
    assert "nothing changed" in project.play("playbooks/deploy.yml", "-e", "experiment=split_brain").output


@pytest.mark.parametrize("verb", ["validate", "plan"])
def test_a_verb_that_only_looks_changes_nothing(project: Project, verb: str) -> None:
    assert "nothing changed" in project.play(f"playbooks/{verb}.yml", "-e", "experiment=split_brain").output


def test_a_detached_run_is_followed_forwarded_fetched_and_stopped(
    project: Project, cluster: Cluster, endless: Path
) -> None:
    """One long run, every verb that is about a run; each asserted from outside."""
    detached = project.run(endless, "-e", "detach=true")
    run_id = project.newest()
    for verb in ("logs", "status", "fetch", "stop"):
        assert f"ansible-playbook playbooks/{verb}.yml -e run={run_id}" in detached.output, verb
    assert main_pid(cluster, "jetson", "workload")

    logs = project.play("playbooks/logs.yml", "-e", f"run={run_id}", "-e", "instance=a", "-e", "follow=false")
    assert "a@jetson: " in logs.output
    assert "b@rpi1: " not in logs.output

    following = project.start("playbooks/logs.yml", "-e", f"run={run_id}")
    eventually("both minds are followed", lambda: following.printed("a@jetson: ") and following.printed("b@rpi1: "))

    forward = project.start("playbooks/forward.yml", "-e", f"run={run_id}", "-e", "instance=b")
    eventually("the port opens", lambda: forward.printed("http://127.0.0.1:"))
    port = int(re.search(r"http://127\.0\.0\.1:(\d+)", forward.output)[1])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
        assert json.load(answer) == {"status": "ok"}
    assert listening(port) == {"127.0.0.1"}, "on the loopback and nowhere else"
    forward.process.send_signal(signal.SIGINT)
    forward.finish(code=None)
    eventually("the port closes with it", lambda: not listening(port), 10)

    stopped = project.play("playbooks/stop.yml", "-e", f"run={run_id}")
    assert "Stop the instance" in stopped.output
    for node in ("jetson", "rpi1"):
        assert not on(cluster, node, "pgrep", "-f", run_id).strip(), f"a process of the run is left on {node}"
    assert "nothing changed" in project.play("playbooks/stop.yml", "-e", f"run={run_id}").output
    following.finish()  # ends by itself with the instances

    project.play("playbooks/fetch.yml", "-e", f"run={run_id}")
    assert project.events(run_id, "collected")[-1]["statuses"] == {"a": "STOPPED", "b": "STOPPED"}
    assert project.query(run_id, "SELECT count(*) FROM messages")[0][0] > 0


@pytest.mark.slow
def test_a_run_is_watched_no_longer_than_monitor_duration_and_runs_on(
    project: Project, cluster: Cluster, endless: Path
) -> None:
    played = project.run(endless, "-e", "monitor_duration=4")
    assert played.output.count("RUNNING") >= 2
    assert main_pid(cluster, "jetson", "workload")
    project.play("playbooks/stop.yml", "-e", f"run={played.run_id}")


@pytest.mark.slow
def test_an_instance_that_refuses_to_stop_is_killed(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    stubborn = own_program(
        tmp_path, "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(1)\n"
    )
    experiment = tmp_path / "stubborn.yml"
    experiment.write_text("name: stubborn\ninstances: [{id: mule, ram_gb: 1}]\n")
    project.run(experiment, *stubborn, "-e", "detach=true")
    run_id = project.newest()
    node = json.loads((project.record(run_id) / "plan.json").read_text())["assignments"]["mule"]
    assert main_pid(cluster, node, "workload")
    project.play("playbooks/stop.yml", "-e", f"run={run_id}")
    assert not on(cluster, node, "pgrep", "-f", run_id).strip()


def test_all_of_a_run_starts_or_nothing_of_it_runs(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    """b gives up at once, so a, which started well, is stopped again."""
    half = own_program(
        tmp_path,
        "import sys, time\n"
        "from workload import Instance\n"
        "sys.exit(78) if Instance.load().id == 'b' else time.sleep(900)\n",
    )
    played = project.run("split_brain", *half, code=2)
    assert "b@rpi1: b did not start" in played.output
    assert "what had started is stopped again" in played.output
    run_id = project.newest()
    assert [event["instance"] for event in project.events(run_id, "launch_failed")] == ["b@rpi1"]
    for node in ("jetson", "rpi1"):
        assert not on(cluster, node, "pgrep", "-f", run_id).strip()
        assert not on(cluster, node, "find", "/etc/systemd/system", "-name", f"*{run_id}*").strip()
    assert "0/4" in project.play("playbooks/status.yml").output, "its room is free again"


def test_two_runs_at_once_never_share_the_last_slot(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    """Both want rpi1, which has one slot; both planned before either launched."""
    for name in ("first", "second"):
        (tmp_path / f"{name}.yml").write_text(
            f"name: {name}\nworkload: {{rounds: 1000, pause_seconds: 3}}\ninstances: [{{id: solo, ram_gb: 6}}]\n"
        )
    both = [
        project.start(
            "run_experiment.yml",
            "-e",
            f"experiment={tmp_path / name}.yml",
            "-e",
            "placement=solo:rpi1",
            "-e",
            "detach=true",
        )
        for name in ("first", "second")
    ]
    codes = sorted(running.finish(code=None).code for running in both)
    assert codes == [0, 2]
    assert len(on(cluster, "rpi1", "pgrep", "--full", "--exact", "/usr/bin/python3 -m workload").split()) == 1


def test_an_instance_reaches_only_whom_its_network_allows(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    """isolated: nobody; peers: the ports of its peers, and not their nodes (test_66_peers); open: anybody."""
    probe = own_program(
        tmp_path,
        "import socket\n"
        "for name, address in (('peer', '10.77.0.14'), ('stranger', '10.77.0.13')):\n"
        "    try:\n"
        "        socket.create_connection((address, 22), 2).close(); print('REACHED', name)\n"
        "    except OSError as error: print('DENIED', name, error)\n",
    )
    experiment = tmp_path / "reach.yml"
    experiment.write_text(
        "name: reach\ninstances:\n"
        "  - {id: shut, ram_gb: 1, network: isolated}\n"
        "  - {id: near, ram_gb: 1, network: peers}\n"
        "  - {id: free, ram_gb: 1, network: open}\n"
    )
    played = project.run(experiment, *probe, "-e", "placement=shut:jetson,near:jetson,free:host")
    logs = {id: (project.record(played.run_id) / "logs" / f"{id}.log").read_text() for id in ("shut", "near", "free")}
    assert {id: re.findall(r"REACHED (\w+)", text) for id, text in logs.items()} == {
        "shut": [],
        "near": [],
        "free": ["peer", "stranger"],
    }


def available_mb(cluster: Cluster, node: str) -> int:
    """MemAvailable as the node sees it, in units of 2**20 bytes."""
    return int(re.search(r"MemAvailable: +(\d+)", on(cluster, node, "cat", "/proc/meminfo"))[1]) // 1024


def listening(port: int) -> set[str]:
    """The addresses that this machine listens on at a port, from the kernel's table."""
    found = set()
    for table, width in (("/proc/net/tcp", 8), ("/proc/net/tcp6", 32)):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, at = local.split(":")
            if state == "0A" and int(at, 16) == port:
                found.add(".".join(str(byte) for byte in reversed(bytes.fromhex(address))) if width == 8 else address)
    return found
