"""Observers read along, whoever dies; the subject reaches nobody and cannot tell. On real nodes, from outside."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import NODES, Project, eventually, on, own_program
from tests.nodes import Cluster

HALF, ALL = 20, 40
ADDRESSES = ["10.77.0.11", "10.77.0.12", "10.77.0.13", "10.77.0.14"]

# The subject says half of its lines, waits to be told to go on, looks around and says the rest. Killed, it goes on.
# An observer waits likewise when it has half of them; it keeps what it has read in a file.
PROGRAM = f"""
import json, os, pathlib, socket, subprocess, sys, time
from workload import Instance, client, peers, stream_relay

mind = Instance.load()
go, stream, seen = mind.dir / "go", mind.dir / "logs/stream.jsonl", mind.dir / "seen"

def wait():
    while not go.exists():
        time.sleep(0.05)

def reached(address):
    try:
        socket.create_connection((address, 22), 2).close()
        return True
    except OSError:
        return False

def look():
    units = subprocess.run(["systemctl", "list-units", "--all", "--no-legend"], capture_output=True, text=True).stdout
    commands = subprocess.run(["ps", "-e", "-o", "args"], capture_output=True, text=True).stdout.splitlines()
    places = ["/etc/systemd/system", "/run", "/var/log", "/sys/fs/cgroup", "/home"]
    return {{
        "environment": dict(os.environ),
        "files": [str(path) for place in places for path in pathlib.Path(place).rglob("*")],
        "commands": commands,
        "units": units,
        "interfaces": os.listdir("/proc/self/net/dev_snmp6"),
        "reached": [address for address in {ADDRESSES} if reached(address)],
    }}

def subject():
    said = len(stream.read_text().splitlines()) if stream.exists() else 0
    for number in range(said + 1, {HALF} + 1):
        say(number)
    wait()
    if "frail" in sys.argv:
        os._exit(1)
    (mind.dir / "look.json").write_text(json.dumps(look()))
    for number in range(max(said, {HALF}) + 1, {ALL} + 1):
        say(number)

def say(number):
    with stream.open("a") as lines:
        lines.write(json.dumps({{"table": "messages", "id": number, "content": f"line {{number}}"}}) + "\\n")

def observer(url):
    ended = False
    while not ended:
        read = len(seen.read_text().splitlines()) if seen.exists() else 0
        if read >= {HALF}:
            wait()
        rows, ended = client.persist("the subject", lambda: stream_relay.read(url, read, 10))
        with seen.open("a") as notes:
            notes.write("".join(row["content"] + "\\n" for row in rows))

(mind.dir / "progress.json").write_text("{{}}")
observer(peers.Peer.of(mind, "subject")) if mind.observes else subject()
"""
CONNECT = """
import socket, sys
for address in sys.argv[1:]:
    try:
        socket.create_connection((address, 22), 2).close()
        print("REACHED", address)
    except OSError as error:
        print(error)
"""
HEALTH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"


def experiment(folder: Path, *observers: str) -> Path:
    path = folder / "watch.yml"
    instances = [{"id": id, "ram_gb": 1, "observes": ["subject"]} for id in observers]
    path.write_text(yaml.safe_dump({"name": "watch", "instances": [{"id": "subject", "ram_gb": 1}, *instances]}))
    return path


class Watch:
    """A run of the program, as the nodes see it."""

    def __init__(self, project: Project, cluster: Cluster, folder: Path, *arguments: str, **where: str) -> None:
        folder.mkdir()
        self.project, self.cluster, self.where = project, cluster, where
        pins = ",".join(f"{id}:{node}" for id, node in where.items())
        observers = [id for id in where if id != "subject"]
        words = [*own_program(folder, PROGRAM, *arguments), "-e", f"placement={pins}", "-e", "detach=true"]
        project.run(experiment(folder, *observers), *words)
        self.run_id = project.newest()

    def play(self, verb: str, *words: str, code: int | None = 0) -> str:
        return self.project.play(f"playbooks/{verb}.yml", "-e", f"run={self.run_id}", *words, code=code).output

    def dir(self, id: str) -> str:
        return f"/home/jar/brain-in-jar/instances/{self.run_id}/{id}"

    def on(self, id: str, *command: str) -> str:
        return on(self.cluster, self.where[id], *command)

    def read(self, id: str, file: str) -> str:
        return self.on(id, "sh", "-c", f"cat {self.dir(id)}/{file} 2>/dev/null")

    def lines(self, id: str, file: str) -> int:
        return self.read(id, file).count("\n")

    def go(self, *ids: str) -> None:
        for id in ids:
            self.on(id, "touch", f"{self.dir(id)}/go")

    def pid(self, id: str, unit: str) -> int:
        name = f"jarfleet-{self.run_id}-{id}-{unit}.service"
        return int(self.on(id, "systemctl", "show", "-p", "MainPID", "--value", name))

    def kill(self, id: str, unit: str) -> None:
        before = self.pid(id, unit)
        self.on(id, "kill", "-9", str(before))
        eventually(f"another {unit} of {id}", lambda: self.pid(id, unit) not in (0, before))

    def in_network_of(self, id: str, *command: str) -> str:
        return self.on(id, "nsenter", "--net", "--target", str(self.pid(id, "workload")), *command)

    def ended(self, id: str) -> bool:
        return "outcome" in self.read(id, "outcome.json")

    def left(self) -> list[str]:
        """Units, unit files and processes of the run on any node."""
        asked = (
            ("systemctl", "list-units", "--all", "--plain", "--no-legend", f"jarfleet-{self.run_id}*"),
            ("find", "/etc/systemd/system", "-name", f"*{self.run_id}*"),
            ("pgrep", "--full", "--list-full", self.run_id),
        )
        return [line for node in NODES for ask in asked for line in on(self.cluster, node, *ask).splitlines()]


@pytest.mark.parametrize(
    "beside",
    [pytest.param("jetson", marks=pytest.mark.slow, id="on_the_same_node"), pytest.param("host", id="on_another_node")],
)
def test_an_observer_gets_every_line_whoever_dies(
    project: Project, cluster: Cluster, tmp_path: Path, beside: str
) -> None:
    watch = Watch(project, cluster, tmp_path / "watch", subject="jetson", warden=beside)
    eventually("the warden has read half", lambda: watch.lines("warden", "seen") == HALF)
    watch.kill("warden", "workload")
    watch.kill("subject", "workload")
    watch.kill("subject", "llama")
    watch.kill("subject", "relay")

    links = watch.in_network_of("subject", "ip", "-oneline", "link")
    assert re.findall(r"^\d+: (\S+?):", links, re.M) == ["lo"]
    output = watch.in_network_of("subject", "python3", "-c", CONNECT, *ADDRESSES)
    assert output.count("Network is unreachable") == len(ADDRESSES), output
    description = json.loads(watch.read("subject", "instance.json"))
    eventually(
        "it reaches its own llama-server all the same",
        lambda: "ok" in watch.in_network_of("subject", "python3", "-c", HEALTH, f"{description['llama_url']}/health"),
    )

    watch.go("subject")
    eventually("the subject ends", lambda: watch.ended("subject"))
    watch.play("fetch")
    assert not watch.pid("subject", "workload")
    assert watch.pid("subject", "relay"), "half of it is still to be read"
    planned = tmp_path / "plan.json"
    pinned = ("-e", "experiment=split_brain", "-e", "placement=a:jetson", "-e", f"plan_out={planned}")
    project.play("playbooks/plan.yml", *pinned)
    assert description["port"] not in json.loads(planned.read_text())["plan"]["ports"]["a"].values()
    cluster.reboot("jetson")
    dates = watch.on("subject", "stat", "--format", "%x %y", f"{watch.dir('subject')}/logs/stream.jsonl")

    watch.go("warden")
    eventually("the warden ends", lambda: watch.ended("warden"))
    assert watch.read("warden", "seen").splitlines() == [f"line {number}" for number in range(1, ALL + 1)]
    again = watch.on("subject", "stat", "--format", "%x %y", f"{watch.dir('subject')}/logs/stream.jsonl")
    assert again == dates, "not even a date tells of the reading"
    watch.play("fetch")
    assert watch.left() == []
    assert project.events(watch.run_id, "collected")[-1]["statuses"] == {"subject": "COMPLETED", "warden": "COMPLETED"}
    assert "nothing changed" in watch.play("fetch")


def test_a_subject_cannot_tell_that_it_is_observed(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    """It looks around while two observers wait for its next words, one of them on its own node."""
    alone = Watch(project, cluster, tmp_path / "alone", subject="host")
    alone.go("subject")
    eventually("the subject ends", lambda: alone.ended("subject"))
    alone.play("stop")

    observed = Watch(project, cluster, tmp_path / "observed", subject="host", warden="host", guard="jetson")
    for id in ("warden", "guard"):
        eventually("the observers have read half", lambda id=id: observed.lines(id, "seen") == HALF)
    observed.go("warden", "guard", "subject")
    eventually("the subject ends", lambda: observed.ended("subject"))
    looked = json.loads(observed.read("subject", "look.json"))
    assert looked["reached"] == []
    assert looked["interfaces"] == ["lo"]
    assert looked["units"] == ""
    assert any("main.py" in command for command in looked["commands"]), "it sees itself"
    traces = [text for key in ("files", "commands") for text in looked[key] if re.search("relay|warden|guard", text)]
    assert [text for text in traces if not text.endswith("/workload/stream_relay.py")] == []

    def stated(watch: Watch) -> dict[str, Any]:
        """What the subject was given, and what is in its folder, without what names the run."""
        environment = json.loads(watch.read("subject", "look.json"))["environment"]
        for own in ("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID"):
            environment[own] = "another in each start"
        found = {
            "environment": environment,
            "instance": json.loads(watch.read("subject", "instance.json")),
            "files": watch.on("subject", "find", watch.dir("subject"), "-printf", "%P %m %u\n").splitlines(),
            "stream": watch.read("subject", "logs/stream.jsonl"),
        }
        text = json.dumps(found).replace(watch.run_id, "RUN")
        return json.loads(re.sub(r"jarfleet\d\d", "USER", text))  # whichever was free

    for id in ("warden", "guard"):
        eventually("the observers end", lambda id=id: observed.ended(id))
        assert observed.read(id, "seen").splitlines() == [f"line {number}" for number in range(1, ALL + 1)]
    observed.play("stop")
    after, before = stated(observed), stated(alone)
    assert sorted(after.pop("files")) == sorted(before.pop("files"))
    assert after == before


def test_a_stopped_run_leaves_nothing(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    watch = Watch(project, cluster, tmp_path / "watch", subject="jetson", warden="jetson")
    assert watch.pid("subject", "relay")
    watch.play("stop")
    assert watch.left() == []
    assert "nothing changed" in watch.play("stop")
    watch.play("fetch")
    assert "nothing changed" in watch.play("fetch")
    assert project.events(watch.run_id, "collected")[-1]["statuses"] == {"subject": "STOPPED", "warden": "STOPPED"}
    log = (project.record(watch.run_id) / "logs" / "subject.log").read_text()
    assert f"{watch.run_id} subject workload" in log
    assert f"{watch.run_id} subject relay" not in log


@pytest.mark.slow
def test_an_observer_of_a_subject_that_is_given_up_comes_to_its_end(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    watch = Watch(project, cluster, tmp_path / "watch", "frail", subject="rpi1", warden="jetson")
    eventually("the warden has read half", lambda: watch.lines("warden", "seen") == HALF)
    watch.go("subject", "warden")
    eventually("the warden ends", lambda: watch.ended("warden"), 180)
    watch.play("fetch", code=2)
    assert project.events(watch.run_id, "collected")[-1]["statuses"] == {"subject": "FAILED", "warden": "COMPLETED"}
    assert watch.left() == []
