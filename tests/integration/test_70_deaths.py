"""How minds die, on real nodes: what their kernels, systemd and disks know of it is in the run's merged database."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Project, Running, eventually, on, own_program
from tests.integration.test_30_crashes import main_pid
from tests.nodes import Cluster

# Each mind dies its own death in its first life, once it is told to, and ends well in its second.
MORTAL = """
import json, os, pathlib, sys, time
from workload import Instance

mind = Instance.load()
here = pathlib.Path(mind.dir)
lives = here / "lives"
life = int(lives.read_text()) + 1 if lives.exists() else 1
lives.write_text(str(life))
(here / "progress.json").write_text(json.dumps({"cycle": life, "round": 1, "rounds": 2}))
began = time.time()
while life == 1 and not (here / "go").exists():
    (here / "tick").write_text(json.dumps([began, time.time()]))
    (here / "tick").replace(here / "ticks")
    time.sleep(0.05)
if life == 1 and mind.id == "hungry":
    hoard = bytearray(900 << 20)
if life == 1 and mind.id == "broken":
    sys.exit(3)
"""
NODES = {"hungry": "host", "shot": "jetson", "unplugged": "rpi1", "broken": "rpi2", "restarted": "host"}
SLACK = 3  # seconds between a process and what its program says of it: the interpreter's start, its last tick


def write(folder: Path, *ids: str) -> Path:
    path = folder / "mortal.yml"
    instances = [{"id": id, "ram_gb": 0.5, "preferred_node": NODES[id]} for id in ids]
    path.write_text(json.dumps({"name": "mortal", "instances": instances}))
    return path


@dataclass
class Minds:
    """The instances of one run, from outside of their nodes."""

    cluster: Cluster
    run_id: str

    def path(self, id: str, name: str) -> str:
        return f"/home/jar/brain-in-jar/instances/{self.run_id}/{id}/{name}"

    def read(self, id: str, name: str) -> str:
        """A file of an instance; empty while there is none."""
        return on(self.cluster, NODES[id], "sh", "-c", f"cat {self.path(id, name)} 2>/dev/null || true")

    def go(self, id: str) -> None:
        """Have it die."""
        on(self.cluster, NODES[id], "touch", self.path(id, "go"))

    def first_life(self, id: str) -> tuple[float, float]:
        """When it began and when it was last at work, by its own account."""
        began, last = json.loads(self.read(id, "ticks"))
        return began, last

    def second_life(self, id: str) -> tuple[float, float]:
        """Wait for it, and report the first."""
        eventually(f"{id} lives again", lambda: self.read(id, "lives") == "2")
        return self.first_life(id)

    def completed(self, id: str) -> None:
        """Wait until it is."""
        eventually(f"{id} has completed", lambda: self.read(id, "outcome.json"))


def seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def lives(project: Project, run_id: str) -> dict[tuple[str, str, int], dict[str, Any]]:
    """The table `deaths` by instance, unit and life."""
    columns = (
        "node", "started_at", "ended_at", "lived_seconds", "cause", "detail", "memory_peak_mb", "memory_limit_mb",
        "cycle_number",
    )  # fmt: skip
    rows = project.query(run_id, f"SELECT instance, unit, life, {', '.join(columns)} FROM deaths")
    found = {row[:3]: dict(zip(columns, row[3:], strict=True)) for row in rows}
    assert len(found) == len(rows)
    return found


def watched(project: Project, running: Running, instances: int) -> str:
    """The run, once all of its instances are watched."""
    eventually("it has its record", lambda: running.printed("\n  run mortal_"))
    run_id = project.newest()

    def seen() -> bool:
        assert running.process.poll() is None, running.output
        return len({event["instance"] for event in project.events(run_id, "status")}) == instances

    eventually("all are watched", seen, 180)
    return run_id


def test_each_mind_s_deaths_are_reported_with_cause_lifetime_and_memory(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    experiment = write(tmp_path, *NODES)
    running = project.start("run_experiment.yml", "-e", f"experiment={experiment}", *own_program(tmp_path, MORTAL))
    run_id = watched(project, running, len(NODES))
    minds = Minds(cluster, run_id)
    assert project.events(run_id, "placed")[0]["assignments"] == NODES

    reported = {}
    minds.go("broken")
    cluster.power_cut("rpi1")
    on(cluster, "jetson", "kill", "-9", str(main_pid(cluster, "jetson", "workload")))
    for id in ("broken", "shot"):
        reported[id] = minds.second_life(id)
    cluster.start("rpi1")
    reported["unplugged"] = minds.second_life("unplugged")
    minds.go("hungry")
    reported["hungry"] = minds.second_life("hungry")
    minds.completed("hungry")
    reported["restarted"] = minds.first_life("restarted")
    cluster.reboot("host")
    played = running.finish()

    rows = lives(project, run_id)
    assert {key: row["detail"] for key, row in rows.items() if key[1] == "workload"} == {
        ("hungry", "workload", 1): "killed: out of memory",
        ("shot", "workload", 1): "killed by SIGKILL",
        ("unplugged", "workload", 1): "its node was lost",
        ("broken", "workload", 1): "ended with exit code 3",
        ("restarted", "workload", 1): "stopped",
        **{(id, "workload", 2): "completed" for id in NODES},
    }
    causes = {(id, life): row["cause"] for (id, unit, life), row in rows.items() if unit == "llama"}
    assert causes == {
        ("hungry", 1): "completed",
        ("shot", 1): "completed",
        ("broken", 1): "completed",
        ("unplugged", 1): "node_lost",
        ("unplugged", 2): "completed",
        ("restarted", 1): "stopped",
        ("restarted", 2): "completed",
    }, "llama-server outlives its workload, but not its node"
    for id, (began, last) in reported.items():
        row = rows[id, "workload", 1]
        assert (row["node"], row["cycle_number"]) == (NODES[id], 1)
        assert began - SLACK < seconds(row["started_at"]) <= began
        assert last - began - SLACK < row["lived_seconds"] < last - began + SLACK + (id == "hungry") * 10
        assert seconds(row["ended_at"]) == pytest.approx(seconds(row["started_at"]) + row["lived_seconds"], abs=0.01)
    peaks = {id: rows[id, "workload", 1]["memory_peak_mb"] for id in NODES}
    assert peaks.pop("unplugged") is None, "its kernel's count went with it"
    assert 400 < peaks.pop("hungry") <= 512
    assert all(0 < peak < 100 for peak in peaks.values()), peaks
    assert {rows[id, "workload", 1]["memory_limit_mb"] for id in NODES if id != "unplugged"} == {512}

    lines = played.output.splitlines()
    assert "  deaths: 5" in lines, "four of minds, and the llama-server of the node that was cut off"
    before = (project.record(run_id) / "experiments.db").read_bytes()
    again = project.play("playbooks/fetch.yml", "-e", f"run={run_id}")
    assert "deaths: 5" in again.output
    assert (project.record(run_id) / "experiments.db").read_bytes() == before, "every end once"


@pytest.mark.slow
def test_a_node_that_never_comes_back_is_a_death_and_one_that_does_reports_it_itself(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    experiment = write(tmp_path, "unplugged", "broken")
    given_up = ["-e", "node_lost_seconds=15"]
    program = own_program(tmp_path, MORTAL)
    running = project.start("run_experiment.yml", "-e", f"experiment={experiment}", *program, *given_up)
    run_id = watched(project, running, 2)
    minds = Minds(cluster, run_id)
    minds.go("broken")
    cluster.power_cut("rpi1")
    running.finish(code=None)
    rows = lives(project, run_id)
    lost = rows["unplugged", "workload", 1]
    assert lost["cause"] == "node_lost"
    heard = project.events(run_id, "node_lost")[0]["last_heard"]
    assert seconds(lost["ended_at"]) == seconds(heard)
    assert lost["lived_seconds"] >= 0
    assert ("unplugged", "workload", 2) not in rows

    cluster.start("rpi1")
    minds.second_life("unplugged")
    began, _ = minds.first_life("unplugged")
    minds.completed("unplugged")
    project.play("playbooks/fetch.yml", "-e", f"run={run_id}")
    rows = lives(project, run_id)
    ends = {life: row["cause"] for (id, unit, life), row in rows.items() if (id, unit) == ("unplugged", "workload")}
    assert ends == {1: "node_lost", 2: "completed"}
    assert began - SLACK < seconds(rows["unplugged", "workload", 1]["started_at"]) <= began, "the node's own word"


def test_what_a_person_stops_has_not_died(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    experiment = write(tmp_path, "shot")
    program = own_program(tmp_path, MORTAL)
    project.run(experiment, *program, "-e", "detach=true")
    run_id = project.newest()
    project.play("playbooks/stop.yml", "-e", f"run={run_id}")
    fetched = project.play("playbooks/fetch.yml", "-e", f"run={run_id}")
    assert {row["cause"] for row in lives(project, run_id).values()} == {"stopped"}
    assert "deaths: " not in fetched.output
