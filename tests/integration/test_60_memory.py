"""Memory that is true: the smallest experiment file, its size by its model, and what its node then measured."""

import json
from pathlib import Path

from tests.integration.conftest import Project, eventually, on
from tests.integration.test_30_crashes import main_pid
from tests.nodes import Cluster


def test_an_instance_without_a_size_gets_it_from_its_model_and_its_peak_comes_home(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    experiment = tmp_path / "smallest.yml"
    experiment.write_text("name: smallest\nworkload: {pause_seconds: 1}\ninstances: [{id: a}]\n")
    running = project.start("run_experiment.yml", "-e", f"experiment={experiment}", "-e", "placement=a:rpi1")
    first = eventually("it runs", lambda: main_pid(cluster, "rpi1", "workload"))
    eventually("it counts", lambda: "progress.json" in on(cluster, "rpi1", "sh", "-c", "ls /home/jar/*/instances/*/*"))
    unit = "/etc/systemd/system/jarfleet-*-a.slice"
    limit = on(cluster, "rpi1", "sh", "-c", f"grep MemoryMax {unit}").strip()
    on(cluster, "rpi1", "kill", "-9", str(first))  # a second life of the workload, the same one of its llama-server
    played = running.finish()
    record = project.record(played.run_id)
    a = json.loads((record / "memory.json").read_text())["a"]
    assert (a["ram_gb"], a["declared"]) == (0.1, False)
    assert limit == f"MemoryMax={int(0.1 * 2**30)}"
    assert set(a["parts_gb"]) == {"weights", "repack_copy", "kv", "compute", "base", "workload"}
    assert 0.5 < a["ratio"] < 1.05, a
    assert 0 < a["charged_gb"] <= a["ram_gb"], a
    exits = [json.loads(line) for line in (record / "logs" / "a.exits.jsonl").read_text().splitlines()]
    assert [end["unit"] for end in exits] == ["workload", "workload", "llama"]
    assert all(end["memory"]["unit_peak"] for end in exits)
    rows = [line.split() for line in played.output.splitlines()]
    row = next(row for row in rows if row[:3] == ["a", "rpi1", "COMPLETED"])
    assert row[-4:-1] == ["0.10", f"{a['predicted_gb']:.2f}", f"{a['resident_gb']:.2f}"]
    assert project.events(played.run_id, "collected")[-1]["memory"]["a"] == a
    before = {path: path.read_bytes() for path in sorted(record.rglob("*")) if path.is_file()}
    assert "nothing changed" in project.play("playbooks/fetch.yml", "-e", f"run={played.run_id}").output
    assert before == {path: path.read_bytes() for path in sorted(record.rglob("*")) if path.is_file()}


def test_a_size_below_what_the_model_needs_is_warned_about_in_a_check_too(project: Project, tmp_path: Path) -> None:
    experiment = tmp_path / "low.yml"
    experiment.write_text("name: low\ninstances: [{id: a, ram_gb: 0.02}]\n")
    played = project.run(experiment, "--check")
    output = " ".join(played.output.split())  # Ansible wraps its warnings
    assert (
        "instances.a.ram_gb: 0.02 declared, but the model and its context of 4096 tokens need about 0.05 GB" in output
    )
