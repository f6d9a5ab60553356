"""Plans as files, several runs at once, and experimental designs, on real nodes; asserted from outside."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import CACHE, NODES, Project, Running, eventually, on, snapshot, write_experiment
from tests.nodes import Cluster

ENDLESS = {"rounds": 1000, "pause_seconds": 3}
LOCK = "/home/jar/brain-in-jar/instances/.lock"


def main_pids(cluster: Cluster, run_id: str, places: dict[str, str]) -> dict[tuple[str, str], int]:
    """The processes of a run's units: {(instance, unit): pid}, 0 for one that does not run."""
    show = ("systemctl", "show", "--property=MainPID", "--value")
    return {
        (id, unit): int(on(cluster, node, *show, f"jarfleet-{run_id}-{id}-{unit}"))
        for id, node in places.items()
        for unit in ("workload", "llama")
    }


def small(folder: Path, name: str, ids: str = "a", **changes: object) -> Path:
    """An experiment of minds of 2 GB that would run for hours."""
    path = folder / f"{name}.yml"
    minds = [{"id": id, "ram_gb": 2} for id in ids]
    path.write_text(yaml.safe_dump({"name": name, "workload": ENDLESS, "instances": minds, **changes}))
    return path


@contextmanager
def admission_held(cluster: Cluster, node: str) -> Iterator[None]:
    """As long as this lasts, every launch on the node waits at its door."""
    on(cluster, node, "install", "-d", "-o", "jar", "-g", "jar", str(Path(LOCK).parent))
    on(cluster, node, "systemd-run", "--quiet", "--unit=held", "--uid=jar", "flock", LOCK, "sleep", "900")
    eventually("the lock is held", lambda: on(cluster, node, "sh", "-c", f"flock -n {LOCK} true || echo held").strip())
    try:
        yield
    finally:
        on(cluster, node, "systemctl", "stop", "held")


def launched_at_once(project: Project, cluster: Cluster, node: str, words: list[list[str]]) -> list[Running]:
    """Launches that have all planned before the first of them is admitted on the node."""
    known = set(project.runs.glob("*/plan.json"))
    with admission_held(cluster, node):
        all_of_them = [project.start("run_experiment.yml", "-e", "detach=true", *each) for each in words]
        eventually(
            "all have planned",
            lambda: (
                len(set(project.runs.glob("*/plan.json")) - known) == len(words)
                or any(running.process.poll() is not None for running in all_of_them)
            ),
            300,
        )
    for running in all_of_them:
        running.finish(code=None)
    return all_of_them


def run_of(running: Running) -> str:
    return re.search(r"run (\w+_\d{8}T\d{6}Z_[0-9a-f]{4})", running.output)[1]


def test_a_saved_plan_is_applied_as_it_is_once_and_other_runs_stay_as_they_are(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    """One long run, then a second: what the first holds is allocated, and nothing of it is moved or restarted."""
    endless = write_experiment(tmp_path, name="endless", workload=ENDLESS)
    out = tmp_path / "plan.json"
    save = ("playbooks/plan.yml", "-e", f"experiment={endless}", "-e", "placement=b:rpi2", "-e", f"plan_out={out}")
    assert "Save the plan" in project.play(*save, "--check").output
    assert not out.exists()
    assert "Save the plan" in project.play(*save).output
    text = out.read_bytes()
    assert "nothing changed" in project.play(*save).output
    assert out.read_bytes() == text

    project.play("run_experiment.yml", "-e", f"plan={out}", "-e", "detach=true")
    first = project.newest()
    assert json.loads((project.record(first) / "plan.json").read_text()) == json.loads(text)["plan"]
    places = {"a": "jetson", "b": "rpi2"}
    pids = main_pids(cluster, first, places)
    assert all(pids.values())

    runs = sorted(project.runs.iterdir())
    again = project.play("run_experiment.yml", "-e", f"plan={out}", code=2)
    for line in (
        "jetson: current_instances was 0, is 1",
        "jetson: allocated_ram_gb was 0, is 8",
        "rpi2: allocated_ram_gb was 0, is 2",
    ):
        assert line in again.output
    assert sorted(project.runs.iterdir()) == runs

    planned = project.play("playbooks/plan.yml", "-e", "experiment=hive_cluster")
    instances, allocated, placed = re.search(r"jetson +HEALTHY +(\d)/4 +(\d+)/56 *(.*)", planned.output).groups()
    new = len(placed.split(", ")) if placed else 0
    assert (int(instances), int(allocated)) == (1 + new, 8 + 12 * new), "what the first run holds is allocated"
    project.run(small(tmp_path, "second"), "-e", "detach=true", "-e", "placement=a:jetson")
    second = project.newest()
    assert json.loads((project.record(second) / "plan.json").read_text())["ports"] == {
        "a": {"peer": 9002, "llama": 9003}
    }
    assert main_pids(cluster, first, places) == pids, "the first run's processes are the same, undisturbed"
    project.play("playbooks/stop.yml", "-e", f"run={second}")
    assert main_pids(cluster, first, places) == pids


def test_a_plan_that_no_longer_holds_is_refused_with_everything_that_changed_and_nothing_is_touched(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    model = tmp_path / "own.gguf"
    shutil.copy(CACHE / "models" / "tiny.gguf", model)
    experiment = write_experiment(tmp_path, name="mine", model={"path": str(model)})
    out = tmp_path / "plan.json"
    project.play("playbooks/plan.yml", "-e", f"experiment={experiment}", "-e", f"plan_out={out}")
    project.play("playbooks/plan.yml", "-e", f"plan={out}")
    wrong = project.play(
        "playbooks/plan.yml", "-e", f"plan={out}", "-e", "experiment=panopticon", "-e", "repeat=2", code=2
    )
    assert "is a plan of" in wrong.output
    assert "repeat: given beside a saved plan" in wrong.output

    document = yaml.safe_load(experiment.read_text())
    document["instances"][0]["ram_gb"] = 9
    experiment.write_text(yaml.safe_dump(document))
    with model.open("ab") as file:
        file.write(b"more")
    sizes = tmp_path / "sizes.yml"
    sizes.write_text("nodes: {hosts: {host: {max_instances: 3}}}\n")
    cluster.power_cut("rpi1")
    alive = [node for node in NODES if node != "rpi1"]
    before = {node: snapshot(cluster, node) for node in alive}
    runs = sorted(project.runs.iterdir())
    refused = project.play(
        "run_experiment.yml", "-i", "inventory/virtual", "-i", str(sizes), "-e", f"plan={out}", code=2
    )
    for line in (
        "host: max_instances was 2, is 3",
        "rpi1: status was HEALTHY, is UNAVAILABLE",
        "experiment: instances.a.ram_gb was 8, is 9",
        "model of a: sha256 was ",
        "model of b: sha256 was ",
    ):
        assert line in refused.output
    assert before == {node: snapshot(cluster, node) for node in alive}
    assert sorted(project.runs.iterdir()) == runs


def test_of_four_launches_at_once_for_the_last_slot_exactly_one_wins_and_the_others_leave_nothing(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    """Each wants rpi1's one slot for `a`; three of them have a second mind elsewhere, which must not live on alone."""
    elsewhere = {"first": "jetson", "second": "host", "third": "rpi2", "fourth": ""}
    launches = launched_at_once(
        project, cluster, "rpi1",
        [
            ["-e", f"experiment={small(tmp_path, name, 'ab' if node else 'a')}",
             "-e", "placement=a:rpi1" + (f",b:{node}" if node else "")]
            for name, node in elsewhere.items()
        ],
    )  # fmt: skip
    winners = [run_of(running) for running in launches if running.process.returncode == 0]
    assert len(winners) == 1, [running.output for running in launches]
    losers = [running for running in launches if running.process.returncode != 0]
    for running in losers:
        assert running.process.returncode == 2
        assert "1 of 1 slots are taken" in running.output
        assert "another run was faster, run again" in running.output
        for node in NODES:
            assert not on(cluster, node, "pgrep", "-f", run_of(running)).strip()
            assert not on(cluster, node, "find", "/etc/systemd/system", "-name", f"*{run_of(running)}*").strip()
    assert on(cluster, "rpi1", "ls", str(Path(LOCK).parent)).split() == winners
    assert on(cluster, "rpi1", "pgrep", "--full", "--exact", "/usr/bin/python3 -m workload").count("\n") == 1


@pytest.mark.slow
def test_of_two_launches_at_once_that_were_given_the_same_ports_one_is_refused_and_runs_when_run_again(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    """jetson has four slots and room for both; only the ports are the same."""
    words = [["-e", f"experiment={small(tmp_path, name)}", "-e", "placement=a:jetson"] for name in ("one", "other")]
    launches = launched_at_once(project, cluster, "jetson", words)
    assert sorted(running.process.returncode for running in launches) == [0, 2]
    at = next(at for at, running in enumerate(launches) if running.process.returncode)
    assert (
        "no room on this node any more: port 9000, 9001 is given out; another run was faster, run again"
        in launches[at].output
    )
    project.play("run_experiment.yml", "-e", "detach=true", *words[at])
    living = (run_of(launches[1 - at]), project.newest())
    assert all(pid for run_id in living for pid in main_pids(cluster, run_id, {"a": "jetson"}).values())
    stated = [on(cluster, "jetson", "cat", f"{Path(LOCK).parent}/{run_id}/a/instance.json") for run_id in living]
    assert [json.loads(text)["ports"]["peer"] for text in stated] == [9000, 9002]


def test_of_two_launches_at_once_for_the_last_gpu_memory_one_is_refused(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    inventory = tmp_path / "discrete.yml"
    inventory.write_text("nodes: {hosts: {jetson: {gpu_memory: discrete, gpu_memory_gb: 16}}}\n")
    mind = {"id": "a", "ram_gb": 2, "gpu": "required", "gpu_memory_gb": 10}
    words = [
        [
            "-i", "inventory/virtual", "-i", str(inventory),
            "-e", f"experiment={small(tmp_path, name, instances=[mind])}",
            "-e", json.dumps({"peer_port_range": {"start": start, "end": 9100}}),
        ]
        for name, start in (("one", 9000), ("other", 9050))
    ]  # fmt: skip
    launches = launched_at_once(project, cluster, "jetson", words)
    assert sorted(running.process.returncode for running in launches) == [0, 2]
    loser = next(running for running in launches if running.process.returncode)
    assert "any more: 10.0 of 16.0 GB of GPU memory are taken, it needs 10.0; another run was faster" in loser.output


def test_a_designed_experiment_runs_as_its_seed_and_repeat_say_and_its_record_says_so_too(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    design = {"randomize": True, "counterbalance": ["a", "b"]}
    experiment = small(tmp_path, "designed", "ab", workload={"rounds": 1}, design=design)
    planned = project.play(
        "playbooks/plan.yml", "-e", f"experiment={experiment}", "-e", "placement_seed=7", "-e", "repeat=2"
    )
    assert "repeat 2 of 3: a on a raspberry_pi, b on a host" in planned.output
    assert "drawn with seed 7 among the equally good plans" in planned.output
    played = project.run(experiment, "-e", "placement_seed=7", "-e", "repeat=2")
    record = project.record(played.run_id)
    plan = json.loads((record / "plan.json").read_text())
    assert plan["counterbalance"]["node_types"] == {"a": "raspberry_pi", "b": "host"}
    assert re.search(rf"a +{plan['assignments']['a']} ", planned.output), "the same seed, the same plan"
    kept = {"seed": 7, "counterbalance": plan["counterbalance"]}
    assert json.loads((record / "manifest.json").read_text())["design"] == kept
    assert kept.items() <= project.events(played.run_id, "placed")[0].items()
