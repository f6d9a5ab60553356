"""The control loop on real nodes: leases, what ends without them, and runs that go on elsewhere when a node is lost."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from contract import names
from fleet.control.one_at_a_time import holder
from tests.integration.conftest import ROOT, Project, eventually, on, write_experiment
from tests.nodes import Cluster


class Watch:
    """Every process of one instance's workload, on whichever node, seen from outside: from this machine's /proc."""

    def __init__(self, run_id: str, id: str) -> None:
        self._unit = f"/jarfleet-{run_id}-{id}-workload.service"
        self.lives: dict[tuple[str, int], tuple[float, float]] = {}  # {(node's container, pid): (first, last seen)}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            now = time.monotonic()
            for path in Path("/proc").glob("[0-9]*/cgroup"):
                try:
                    text = path.read_text()
                    command = (path.parent / "cmdline").read_bytes()
                except OSError:
                    continue
                if self._unit in text and b"\0-m\0workload\0" in command:
                    container = text.split("libpod-")[1][:12]
                    first = self.lives.get((container, int(path.parent.name)), (now, now))[0]
                    self.lives[container, int(path.parent.name)] = (first, now)

    def in_order(self) -> list[tuple[str, tuple[float, float]]]:
        """[(node's container, (first, last seen))] in the order of their beginning."""
        return sorted(((node, life) for (node, _), life in self.lives.items()), key=lambda one: one[1])


@pytest.fixture
def loop(project: Project, cluster: Cluster) -> Iterator[Path]:
    """The control loop, started by its playbook: its folder."""
    # Another loop may have had these nodes.
    started = project.play("playbooks/control.yml", "-e", "state=started", "-e", "takeover=true")
    assert "changed: " in started.output
    folder = Path(project.environment["XDG_STATE_HOME"]) / "jarfleet" / "control" / "brain-in-jar-virtual"
    yield folder
    project.play("playbooks/control.yml", "-e", "state=stopped")
    assert holder(folder) is None


def log(folder: Path) -> str:
    return (folder / "loop.log").read_text()


def done(folder: Path, run: str, what: str) -> int:
    """How often the loop has done a thing for a run."""
    return log(folder).count(f"{run}: {what}: done")


def round_of(cluster: Cluster, run: str, id: str, node: str) -> int:
    """The round that a mind is in, as it says on its node."""
    return int(
        json.loads(on(cluster, node, "cat", f"/home/jar/brain-in-jar/instances/{run}/{id}/progress.json"))["round"]
    )


def causes(cluster: Cluster, run: str, id: str, node: str) -> list[str]:
    """Why each process of an instance has ended, as its node has written it down."""
    log = f"/home/jar/brain-in-jar/instances/{run}/{id}/logs/exits.jsonl"
    return [json.loads(line)["cause"] for line in on(cluster, node, "cat", log).splitlines()]


# Asks for a lease, from just before the end of the one that b has, until it gets it: as a loop does that comes back.
RENEW_AS_IT_ENDS = f"""
import sys, time
sys.path.insert(0, {names.NODE_PROGRAM!r})
from contract.description import InstanceRef
from contract.leases import Lease
from node import exit_log, held_leases, lease_renewal
from node.errors import NodeError

ref = InstanceRef(sys.argv[1], "b", "rpi1", "/home/jar/brain-in-jar", "jar")
ends = held_leases.current(ref.run_id, ref.id).until
while held_leases.clock() < ends - 0.05:
    time.sleep(0.01)
refused = 0
while held_leases.clock() < ends + 30:
    try:
        lease_renewal.renew(ref, Lease(exit_log.boot(), held_leases.clock() + 10, 1))
        break
    except NodeError:
        refused += 1
print(refused)
"""


def status(project: Project) -> str:
    return project.play("playbooks/status.yml").output


def test_a_run_goes_on_elsewhere_when_its_node_is_cut_off(
    project: Project, cluster: Cluster, loop: Path, tmp_path: Path
) -> None:
    experiment = write_experiment(tmp_path, name="moved", workload={"rounds": 1000, "pause_seconds": 1})
    watching = project.start("run_experiment.yml", "-e", f"experiment={experiment}")
    looks = "the control loop moves it when a node is lost; without the loop it stops after 20 s"
    eventually("it is launched", lambda: watching.printed(looks))
    run = project.newest()
    eventually("it runs", lambda: project.events(run, "launched"))
    assert re.search(r"b +rpi1 +RUNNING .* \d+ s$", status(project), re.MULTILINE), "its lease is told"
    eventually("a checkpoint", lambda: done(loop, run, "checkpoints"))

    def pid_of_a() -> str:
        unit = f"jarfleet-{run}-a-workload.service"
        return on(cluster, "jetson", "systemctl", "show", "-p", "MainPID", "--value", unit).strip()

    lives_on = pid_of_a()

    before = round_of(cluster, run, "b", "rpi1")
    eventually("rounds that are in no checkpoint", lambda: round_of(cluster, run, "b", "rpi1") > before + 1)
    with Watch(run, "b") as watched:
        cluster.cut("rpi1")
        eventually("it is moved", lambda: done(loop, run, "moves") == 1, 120)
        assert re.search(r"b +rpi2 +RUNNING", status(project))
        cluster.heal("rpi1")
        eventually("the node that came back is cleaned", lambda: done(loop, run, "cleans up") == 1)
        kept = f"cat /home/jar/brain-in-jar/instances/{run}/b/outcome.json"
        assert json.loads(on(cluster, "rpi1", "sh", "-c", kept))["outcome"] == "FENCED"
    lives = watched.in_order()
    (first, life), (second, later) = lives
    assert first != second
    assert life[1] < later[0], "never on two nodes at once"

    assert [one["node"] for one in project.events(run, "node_lost")] == ["rpi1"]
    # A person moves it on, where it has the node's only slot itself: the loop does not interfere, and looks after it.
    there = ("-e", f"run={run}", "-e", "to=rpi2")
    refused = project.play("playbooks/migrate.yml", *there, "-e", "instance=z", code=2).output
    assert "z: the run has no such instance; it has a, b" in refused
    refused = project.play("playbooks/migrate.yml", *there, "-e", "instance=a", code=2).output
    assert "keeps them apart" in refused, "why it cannot go there, and nothing is stopped"
    assert re.search(r"failed: localhost; nothing changed", refused)
    moved = project.play("playbooks/migrate.yml", *there, "-e", "instance=b").output
    assert "lives on meanwhile: a on jetson" in moved
    assert re.search(r"b +rpi2 +\d+\.\d s +token for token \(\d+ tokens\)$", moved, re.MULTILINE), "how long it paused"
    assert re.search(r"b +rpi2 +RUNNING .* \d+ s$", status(project), re.MULTILINE)

    # A node is emptied for a person; one that cannot be is left as it is.
    refused = project.play("playbooks/drain.yml", "-e", "node=jetson", code=2).output
    assert "jetson still holds a of" in refused
    assert "it cannot be moved: resume.yml exited with 2: " in refused
    project.play("playbooks/drain.yml", "-e", "node=rpi2")
    eventually("it goes on elsewhere", lambda: done(loop, run, "moves") == 2)
    told = status(project)
    assert re.search(r"b +(rpi1|host) +RUNNING", told)
    assert re.search(r"rpi2 +raspberry_pi +MAINTENANCE", told)
    assert re.search(r"jetson +jetson_orin +HEALTHY", told)
    project.play("playbooks/uncordon.yml", "-e", "node=rpi2")
    assert re.search(r"rpi2 +raspberry_pi +HEALTHY", status(project))

    resumed = [(one["instance"], one["epoch"]) for one in project.events(run, "resumed")]
    assert resumed == [("b", 2), ("b", 3), ("b", 4)]
    assert pid_of_a() == lives_on, "its peer was told each time where it is, and never stopped"
    (late,) = project.events(run, "recovered")
    assert (late["instance"], late["epoch"], late["node"]) == ("b", 1, "rpi1"), "what it did after the checkpoint"
    assert late["rows"]["system_metrics"] > 0
    assert project.events(run, "waits"), "while it could not be known that it had ended"
    project.play("playbooks/stop.yml", "-e", f"run={run}")
    watched_to_its_end = watching.finish().output
    assert f"results of {run}" in watched_to_its_end
    assert re.search(r"rpi2: resumed b 2 ", watched_to_its_end), "told by the command that launched it"
    with closing(sqlite3.connect(project.record(run) / "db" / "b.db")) as db:
        rounds = [number for (number,) in db.execute("SELECT round FROM system_metrics ORDER BY 1")]
        died = "SELECT death_cause FROM experiment_cycles WHERE death_cause IS NOT NULL"
        deaths = [cause for (cause,) in db.execute(died)]
    assert rounds == list(range(1, len(rounds) + 1)), "no round is missing, and none was there twice"
    assert deaths in ([], ["node_lost"]), "a move that is planned is no death; a loss between two lives is none either"
    slots = [one["came"] for one in project.events(run, "restored")]
    assert len(slots) == 3, "each move went on token for token"
    assert all(came["kept"] == came["tokens"] - 1 for came in slots)
    everything = [json.loads(line)["event"] for line in (loop / "events.jsonl").read_text().splitlines()]
    assert {"node_lost", "node_status", "status", "waits"} <= set(everything)


@pytest.mark.slow
def test_without_the_loop_what_is_leased_stops_and_goes_on_when_there_is_one_again(
    project: Project, cluster: Cluster, loop: Path, tmp_path: Path
) -> None:
    assert "nothing changed" in project.play("playbooks/control.yml", "-e", "state=started").output
    second = subprocess.run(
        [sys.executable, "-m", "fleet.control", str(loop)],
        cwd=ROOT,
        env=project.environment,
        capture_output=True,
        text=True,
    )
    first = holder(loop)
    assert first
    assert second.returncode == 2
    assert f"a control loop runs already: process {first.pid} on " in second.stderr

    experiment = write_experiment(tmp_path, name="fenced", workload={"rounds": 1000, "pause_seconds": 1})
    project.run(experiment, "-e", "detach=true")
    run = project.newest()
    pids = "systemctl show -p MainPID --value 'jarfleet-*-workload.service'"

    def running(node: str) -> bool:
        return on(cluster, node, "sh", "-c", pids).strip() not in ("", "0")

    assert running("rpi1")
    signal_to = holder(loop)
    assert signal_to
    subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(signal_to.pid)], check=True)
    refused = on(cluster, "rpi1", "python3", "-c", RENEW_AS_IT_ENDS, run)
    eventually("with the next lease it goes on", lambda: running("rpi1"))
    assert int(refused) > 0, "nothing is given while it stops"
    assert causes(cluster, run, "b", "rpi1") == ["fenced", "fenced"]
    eventually("both stop by themselves", lambda: not (running("jetson") or running("rpi1")), 30)
    told = status(project)
    assert len(re.findall(r"PENDING .* none: it waits for the control loop", told)) == 2
    assert "control loop: none runs" in told
    cluster.reboot("rpi1")
    assert not running("rpi1"), "nor does it come back with its node"

    project.play("playbooks/control.yml", "-e", "state=started")
    eventually("both go on", lambda: running("jetson") and running("rpi1"))
    reached = round_of(cluster, run, "b", "rpi1")
    heard = "and hear each other, though one node has booted"
    eventually(heard, lambda: round_of(cluster, run, "b", "rpi1") > reached + 1)
    assert len(re.findall(r" RUNNING .* \d+ s$", status(project), re.MULTILINE)) == 2
    assert causes(cluster, run, "b", "rpi1") == ["fenced"] * 4, "of its llama-server too"

    # Another controller takes over: its state and its records are elsewhere.
    (tmp_path / "other" / "runs").mkdir(parents=True)
    other = Project(tmp_path / "other" / "runs")
    try:
        lives_on = on(cluster, "rpi1", "sh", "-c", pids)
        refused = other.play("playbooks/control.yml", "-e", "state=started").output
        assert re.search(r"the control loop does not hear of rpi1: .*this node is attended by", refused)
        assert f"{run} is looked after" not in refused
        taken = other.play("playbooks/control.yml", "-e", "state=started", "-e", "takeover=true").output
        assert re.search(rf"{run} is looked after from now on: a on jetson, b on rpi1$", taken, re.MULTILINE)
        assert lives_on == on(cluster, "rpi1", "sh", "-c", pids)
        kept = project.record(run)
        for name in ("manifest.json", "plan.json"):
            assert (other.record(run) / name).read_bytes() == (kept / name).read_bytes(), "from its copy on the store"
        assert len(list((other.record(run) / "checkpoints").glob("*/*.db"))) == 2
        records = "/home/jar/brain-in-jar/records"
        assert on(cluster, "host", "stat", "-c", "%a %U", records).split() == ["700", "jar"]
        other.play("playbooks/drain.yml", "-e", "node=rpi1")
        eventually("it has moved it", lambda: re.search(r"b +(rpi2|host) +RUNNING", status(other)))
        told = status(project)
        assert "does not hear of rpi2" in told, "the first loop is refused now"
        starts_nothing = re.compile(rf"b of {run} waits: another controller has taken over .*jetson")
        eventually("and it starts nothing", lambda: starts_nothing.search(status(project)))
        other.play("playbooks/uncordon.yml", "-e", "node=rpi1")
        other.play("playbooks/stop.yml", "-e", f"run={run}")
        eventually("the loop is done with it", lambda: f"it looks after {run}" not in status(other))
    finally:
        other.play("playbooks/control.yml", "-e", "state=stopped")


def test_where_there_is_systemd_the_loop_is_a_unit_that_comes_back(cluster: Cluster, tmp_path: Path) -> None:
    """The test nodes have systemd, which the machine of the tests need not have: one stands for a controller."""
    for package in ("fleet", "contract", "placement", "workload"):
        shutil.copytree(ROOT / package, tmp_path / package)
    copied = ["podman", "cp", f"{tmp_path}/.", "host:/opt/controller"]
    subprocess.run(copied, env=cluster.machine.env, cwd=cluster.machine.run_dir, check=True)
    script = """
import sys
from pathlib import Path
from fleet.control import processes
from fleet.control.loop_file import LoopFile, NodeToAttend
node = NodeToAttend(("/opt/jarfleet/node.pyz",), "/home/jar/brain-in-jar", "jar", 90.0, 95.0)
file = LoopFile("c", "/opt/controller", (), {"host": node}, 5.0, 300.0, 50.0, "unit", 1)
folder = Path("/var/lib/jarfleet control/lab")
print(processes.start(file, folder) if sys.argv[1] == "start" else processes.stop(folder))
"""
    unit = "jarfleet-control-lab.service"

    def do(verb: str) -> str:
        done = cluster.exec("host", "sh", "-c", f"cd /opt/controller && python3 -c '{script}' {verb}")
        return (done.stdout + done.stderr).strip()

    def pid() -> str:
        return on(cluster, "host", "sh", "-c", f"systemctl show -p MainPID --value {unit}").strip()

    assert do("start") == "True"
    assert do("start") == "False", "it runs already"
    first = pid()
    assert first not in ("", "0")
    on(cluster, "host", "kill", "-9", first)
    log = "/var/lib/jarfleet control/lab/loop.log"
    eventually("it comes back when it dies", lambda: on(cluster, "host", "cat", log).count("started") == 2)
    cluster.reboot("host")
    eventually("and with the machine", lambda: on(cluster, "host", "cat", log).count("started") == 3)
    assert do("stop") == "True"
    assert do("stop") == "False"
    assert on(cluster, "host", "sh", "-c", "ls /etc/systemd/system | grep jarfleet-control") == ""
    on(cluster, "host", "rm", "-r", "/opt/controller", "/var/lib/jarfleet control")
