"""Checkpoint and resume: a stopped run goes on, on its nodes or others, from its last moment or an earlier one."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.conftest import Project, eventually, on, own_program, write_experiment
from tests.nodes import Cluster

ROUNDS = 20


def said(database: Path, rounds: int = ROUNDS) -> list[tuple[int, str, str]]:
    """What was said in the first rounds."""
    with closing(sqlite3.connect(database)) as db:
        query = "SELECT round, sender, content FROM messages WHERE round <= ? ORDER BY message_id"
        return db.execute(query, (rounds,)).fetchall()


def rounds_of(database: Path) -> int:
    with closing(sqlite3.connect(database)) as db:
        return int(db.execute("SELECT coalesce(max(round), 0) FROM system_metrics").fetchone()[0])


def test_a_stopped_run_goes_on_where_it_was_and_again_from_an_earlier_checkpoint(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    experiment = write_experiment(tmp_path, name="goes_on", workload={"rounds": ROUNDS, "pause_seconds": 0.3})
    project.run(experiment, "-e", "detach=true")
    run = project.newest()
    record = project.record(run)
    placed = project.events(run, "placed")[0]["assignments"]
    assert placed == {"a": "jetson", "b": "rpi1"}

    refused = project.play("playbooks/resume.yml", "-e", f"run={run}", code=2).output
    assert re.search(r"a is RUNNING on jetson; stop the run first: .*stop.yml", refused)
    at_round = "cat /home/jar/brain-in-jar/instances/*/b/progress.json"
    eventually(
        "a few rounds are over", lambda: re.search(r'"round": ([3-9]|1\d)', on(cluster, "rpi1", "sh", "-c", at_round))
    )
    project.play("playbooks/checkpoint.yml", "-e", f"run={run}")
    (first,) = [event["checkpoint"] for event in project.events(run, "checkpointed")]
    slot = (record / "checkpoints" / first / "a.bin").read_bytes()
    project.play("playbooks/stop.yml", "-e", f"run={run}")

    # Where it was, b on another node. What was said before is not said again.
    resumed = project.play("playbooks/resume.yml", "-e", f"run={run}", "-e", "placement=b:host")
    assert re.search(r"b +host +COMPLETED", resumed.output)
    assert [(one["instance"], one["epoch"], one["node"]) for one in project.events(run, "resumed")] == [
        ("a", 2, "jetson"), ("b", 2, "host"),
    ]  # fmt: skip
    (came,) = [one["came"] for one in project.events(run, "restored") if one["instance"] == "a@jetson"]
    assert came["kept"] == came["tokens"] - 1 > 100, "a goes on token for token"
    known = "SELECT cached_tokens FROM generations WHERE instance = 'a' AND cycle_number = 2 ORDER BY generation_id"
    assert project.query(run, known)[0][0] > 50, "llama-server did not read what it had read before"
    for id in "ab":
        before, after = record / "db" / f"{id}.e1.db", record / "db" / f"{id}.db"
        assert said(before, rounds_of(before)) == said(after, rounds_of(before))
        assert rounds_of(after) == ROUNDS
    merged = project.query(run, "SELECT instance, count(*) FROM system_metrics GROUP BY 1 ORDER BY 1")
    assert merged == [("a", ROUNDS), ("b", ROUNDS)]
    of_b = "instance = 'b' AND unit = 'workload'"
    lives = project.query(run, f"SELECT node, cause FROM deaths WHERE {of_b} ORDER BY life")
    assert lives == [("rpi1", "stopped"), ("host", "completed")], "its first life came along"
    assert on(cluster, "rpi1", "sh", "-c", "ls -d /home/jar/brain-in-jar/instances/*/b").strip(), "nothing is removed"
    assert "it is complete" in project.play("playbooks/resume.yml", "-e", f"run={run}", code=2).output
    project.play("playbooks/checkpoint.yml", "-e", f"run={run}")  # its copy on another node catches up
    assert "nothing changed" in project.play("playbooks/checkpoint.yml", "-e", f"run={run}").output

    # From an earlier moment, b back where it was at first.
    unknown = project.play("playbooks/resume.yml", "-e", f"run={run}", "-e", "from=yesterday", code=2).output
    assert f"from=yesterday: no such checkpoint; there are {first}, " in unknown
    # Of a mind that is hostile: its slot is torn, as if it had written it itself.
    described = record / "checkpoints" / first / "a.json"
    (record / "checkpoints" / first / "a.bin").write_bytes(slot[:-1000])
    kept_a = {**json.loads(described.read_text()), "slot": hashlib.sha256(slot[:-1000]).hexdigest()}
    described.write_text(json.dumps(kept_a))
    again = project.play("playbooks/resume.yml", "-e", f"run={run}", "-e", f"from={first}")
    (*_, came) = project.events(run, "restored")
    assert came["instance"] == "a@jetson"
    assert "llama-server does not answer to /slots/0?action=restore" in came["came"]["problem"], "it died of it"
    assert re.search(r"a +jetson +COMPLETED", again.output), "and is started anew without it"
    (*_, resumed_b) = project.events(run, "resumed")
    assert "is not kept any more" in resumed_b["without_slot"], "only the newest slot is kept"
    assert re.search(r"b +rpi1 +COMPLETED", again.output)
    left = {one["instance"]: one["left"] for one in project.events(run, "resumed") if one["epoch"] == 3}
    with closing(sqlite3.connect(record / "checkpoints" / first / "b.db")) as db:
        (kept,) = db.execute("SELECT count(*) FROM system_metrics").fetchone()
    assert left["b"]["system_metrics"] == ROUNDS - kept
    merged = project.query(run, "SELECT instance, count(*) FROM system_metrics GROUP BY 1 ORDER BY 1")
    assert merged == [("a", ROUNDS), ("b", ROUNDS)], "no row of the time that was taken back"
    assert on(cluster, "rpi1", "sh", "-c", "ls -d /home/jar/brain-in-jar/instances/*/b.e1").strip(), "put aside"


@pytest.mark.slow
def test_what_may_still_run_on_a_silent_node_is_started_elsewhere_only_at_a_persons_word(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    experiment = write_experiment(tmp_path, name="silent", workload={"rounds": 900, "pause_seconds": 1})
    project.run(experiment, "-e", "detach=true")
    run = project.newest()
    project.play("playbooks/stop.yml", "-e", f"run={run}", "-e", "instance=a")
    cluster.power_cut("rpi1")
    refused = project.play("playbooks/resume.yml", "-e", f"run={run}", "-e", "placement=b:host", code=2).output
    assert "b may still run on rpi1, which does not answer" in refused
    assert not project.events(run, "resumed")
    wrong = project.play("playbooks/resume.yml", "-e", f"run={run}", "-e", "gone=jetson", code=2).output
    assert "gone=jetson: it answers; stop the run there" in wrong

    words = ("-e", "gone=rpi1", "-e", "placement=b:host", "-e", "monitor_duration=3")
    resumed = project.play("playbooks/resume.yml", "-e", f"run={run}", *words).output
    assert re.search(r"b +2 +the beginning", resumed), "nothing of it had come home"
    taken = (project.record(run) / "logs/b.log").read_text()
    assert "taken back from a: what it was told (say)" in taken

    # The node is switched on again, and so is what it had: nobody listens to it, and it is told of.
    cluster.start("rpi1")
    left = re.compile(r"b of \w+ on rpi1 is left from epoch 1: .*-e instance=b -e earlier=true")
    status = project.play("playbooks/status.yml", "-e", f"run={run}").output
    assert left.search(status)
    stop = ("playbooks/stop.yml", "-e", f"run={run}", "-e", "earlier=true")
    project.play(*stop)
    status = project.play("playbooks/status.yml", "-e", f"run={run}").output
    assert not left.search(status)
    assert re.search(r" b +host +RUNNING", status)
    (late,) = project.events(run, "recovered")
    assert (late["instance"], late["epoch"], late["node"]) == ("b", 1, "rpi1")
    assert late["rows"]["system_metrics"] == rounds_of(project.record(run) / "db" / "b.e1.db") > 0
    assert "nothing of" in project.play(*stop, code=2).output


COUNTS = """
import os, time
os.chdir(os.path.dirname(os.environ["JARFLEET_INSTANCE"]))
os.makedirs("state", exist_ok=True)
try:
    count = int(open("state/count").read())
except OSError:
    count = 0
print("begins at", count, os.path.exists("scratch"), flush=True)
open("scratch", "w").close()
while True:
    count += 1
    with open("state/new", "w") as file:
        file.write(str(count))
    os.replace("state/new", "state/count")
    time.sleep(0.1)
"""


def test_a_program_gets_the_files_back_that_it_calls_its_state(project: Project, tmp_path: Path) -> None:
    experiment = tmp_path / "counts.yml"
    experiment.write_text('name: counts\nstate: ["state/count"]\ninstances: [{id: a, ram_gb: 0.5}]\n')
    project.run(experiment, *own_program(tmp_path, COUNTS), "-e", "placement=a:rpi1", "-e", "detach=true")
    run = project.newest()
    project.play("playbooks/stop.yml", "-e", f"run={run}")
    project.play("playbooks/resume.yml", "-e", f"run={run}", "-e", "placement=a:rpi2", "-e", "monitor_duration=1")
    project.play("playbooks/stop.yml", "-e", f"run={run}")
    assert project.events(run, "resumed")[0]["without_slot"] == "its checkpoint has no slot", "it asked nothing"
    logs = project.record(run) / "logs"
    assert "begins at 0 False" in (logs / "a.e1.log").read_text()
    (count,) = re.findall(r"begins at (\d+) False", (logs / "a.log").read_text())
    assert int(count) > 20, "it counts on, and nothing else of its folder came along"
