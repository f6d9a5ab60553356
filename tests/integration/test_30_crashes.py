"""Processes, connections and controllers die; nothing is lost, nothing runs twice."""

from pathlib import Path

import pytest

from tests.integration.conftest import Project, eventually, on, own_program, write_experiment
from tests.nodes import Cluster

ROUNDS = 12


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """split_brain that takes long enough to be disturbed: a pause in each of its rounds."""
    return write_experiment(
        tmp_path, name="slow", workload={"rounds": ROUNDS, "rounds_per_cycle": None, "pause_seconds": 1}
    )


def main_pid(cluster: Cluster, node: str, unit: str) -> int:
    """The process of the running instance's `workload` or `llama` on a node; 0 when there is none."""
    lines = on(cluster, node, "systemctl", "list-units", "--plain", "--no-legend", f"jarfleet-*-{unit}.service").split()
    return int(on(cluster, node, "systemctl", "show", "-p", "MainPID", "--value", lines[0])) if lines else 0


def cycle(cluster: Cluster, node: str) -> int:
    """The cycle that the node's instance is in."""
    text = on(
        cluster, node, "sh", "-c", "cat /home/jar/brain-in-jar/instances/slow_*/*/progress.json 2>/dev/null | tail -n 1"
    )
    return max((int(word.strip(' ,{}"')) for word in text.split() if word.strip(" ,{}").isdigit()), default=0)


def assert_nothing_lost_or_doubled(project: Project, run_id: str) -> None:
    rows = project.query(
        run_id, "SELECT instance, sender, round, content FROM messages WHERE sender IN ('a', 'b') ORDER BY 1, 2, 3"
    )
    heard = {instance: [row[1:] for row in rows if row[0] == instance] for instance in "ab"}
    assert [(sender, round) for sender, round, _ in heard["a"]] == [(s, n) for s in "ab" for n in range(1, ROUNDS + 1)]
    assert heard["a"] == heard["b"]


def test_a_killed_workload_and_a_killed_llama_server_come_back_and_the_run_completes(
    project: Project, cluster: Cluster, slow: Path
) -> None:
    running = project.start("run_experiment.yml", "-e", f"experiment={slow}")
    for node, unit in (("jetson", "workload"), ("rpi1", "llama"), ("rpi1", "workload"), ("jetson", "llama")):
        before = eventually(f"{unit} on {node}", lambda n=node, u=unit: main_pid(cluster, n, u))
        on(cluster, node, "kill", "-9", str(before))
        eventually(f"another {unit} on {node}", lambda n=node, u=unit, b=before: main_pid(cluster, n, u) not in (0, b))
    running.finish()
    run_id = project.newest()
    assert_nothing_lost_or_doubled(project, run_id)
    died = {(event["instance"], event["unit"]) for event in project.events(run_id, "died")}
    assert died == {("a", "workload"), ("a", "llama"), ("b", "workload"), ("b", "llama")}
    exits = (project.record(run_id) / "logs" / "b.exits.jsonl").read_text()
    assert '"KILL"' in exits, "the death is written down on the node where it happened"


def test_a_killed_controller_leaves_the_instances_running_status_finds_and_fetch_collects_them(
    project: Project, cluster: Cluster, slow: Path
) -> None:
    running = project.start("run_experiment.yml", "-e", f"experiment={slow}")
    eventually(
        "the minds talk", lambda: main_pid(cluster, "rpi1", "workload") and main_pid(cluster, "jetson", "workload")
    )
    pids = {node: main_pid(cluster, node, "workload") for node in ("jetson", "rpi1")}
    eventually("the run is watched", lambda: project.events(project.newest(), "status"))
    running.process.kill()
    running.finish(code=-9)
    run_id = project.newest()
    status = project.play("playbooks/status.yml").output
    assert [line.split()[:4] for line in status.splitlines() if line.strip().startswith(run_id)] == [
        [run_id, "a", "jetson", "RUNNING"],
        [run_id, "b", "rpi1", "RUNNING"],
    ]
    assert pids == {node: main_pid(cluster, node, "workload") for node in pids}, "the same processes, undisturbed"
    early = project.play("playbooks/fetch.yml", "-e", f"run={run_id}")
    assert "RUNNING" in early.output, "a run that goes on can be fetched"
    eventually("the minds end by themselves", lambda: not main_pid(cluster, "rpi1", "workload"), 120)
    eventually("the minds end by themselves", lambda: not main_pid(cluster, "jetson", "workload"), 120)
    project.play("playbooks/fetch.yml", "-e", f"run={run_id}")
    assert_nothing_lost_or_doubled(project, run_id)


@pytest.mark.slow
def test_a_node_cut_off_in_mid_run_is_waited_for_and_the_run_completes(
    project: Project, cluster: Cluster, slow: Path
) -> None:
    running = project.start("run_experiment.yml", "-e", f"experiment={slow}")
    eventually("the minds talk", lambda: main_pid(cluster, "rpi1", "workload"))
    eventually("the run is watched", lambda: project.events(project.newest(), "status"))
    pid = main_pid(cluster, "rpi1", "workload")
    cluster.cut("rpi1")
    eventually("the controller notices", lambda: running.printed("rpi1: does not answer, trying again"), 60)
    cluster.heal("rpi1")
    running.finish()
    assert_nothing_lost_or_doubled(project, project.newest())
    assert not project.events(project.newest(), "died"), f"process {pid} went on"


def test_a_rebooted_node_takes_its_mind_up_again(project: Project, cluster: Cluster, slow: Path) -> None:
    running = project.start("run_experiment.yml", "-e", f"experiment={slow}")
    eventually("the minds talk", lambda: main_pid(cluster, "rpi1", "workload"))
    eventually("the run is watched", lambda: project.events(project.newest(), "status"))
    cluster.reboot("rpi1")
    running.finish()
    assert_nothing_lost_or_doubled(project, project.newest())


def test_an_instance_over_its_memory_is_killed_and_the_other_goes_on(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    hungry = own_program(
        tmp_path,
        "import pathlib\n"
        "from workload import Instance\n"
        "mind = Instance.load()\n"
        "if mind.id == 'big': hoard = bytearray(900 << 20)\n"
        "pathlib.Path(mind.dir, 'done').touch()\n",
    )
    experiment = tmp_path / "hungry.yml"
    experiment.write_text(
        "name: hungry\nrestart: {limit: 5}\ninstances:\n  - {id: big, ram_gb: 0.5, preferred_node: host}\n"
        "  - {id: small, ram_gb: 0.5, preferred_node: jetson}\n"
    )
    played = project.run(experiment, *hungry, code=None)
    assert played.code != 0, "an instance that cannot live is no success"
    run_id = project.newest()
    assert '"KILL"' in (project.record(run_id) / "logs" / "big.exits.jsonl").read_text()
    statuses = project.events(run_id, "collected")[-1]["statuses"]
    assert statuses == {"big": "FAILED", "small": "COMPLETED"}
