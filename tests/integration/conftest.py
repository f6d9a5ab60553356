"""The project as a user runs it, on four real nodes: real sshd, systemd, llama.cpp, SQLite. Asserted from outside."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.artifacts import tiny_model
from tests.nodes import Cluster

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("JARFLEET_CACHE") or Path.home() / ".cache/jarfleet")
NODES = ("jetson", "rpi1", "rpi2", "host")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The four nodes of inventory/virtual. Those that were not up before are taken down after."""
    nodes = Cluster()
    were_up = all(nodes.is_up(name) for name in NODES)
    nodes.up()
    yield nodes
    if not were_up:
        nodes.down()


@dataclass
class Played:
    """A playbook that has run."""

    code: int
    output: str

    @property
    def run_id(self) -> str:
        """The run that the output names."""
        match = re.search(r"results of (\w+):", self.output)
        assert match, self.output
        return match[1]

    @property
    def tasks(self) -> int:
        match = re.search(r"\((\d+) tasks, ", self.output)
        assert match, self.output
        return int(match[1])


class Running:
    """A playbook that goes on in the background; what it has printed so far can be read."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def printed(self, text: str) -> bool:
        return text in self.output

    def finish(self, code: int | None = 0, seconds: float = 600) -> Played:
        """Wait for its end. `code` None takes any exit code."""
        self.process.wait(seconds)
        assert code is None or self.process.returncode == code, self.output
        return Played(self.process.returncode, self.output)


class Project:
    """The commands of the README, run from the root of the clone with a folder of runs of their own."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.environment = {
            **os.environ,
            "JARFLEET_RUNS": str(runs),
            "XDG_STATE_HOME": str(runs.parent / "state"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_NOCOLOR": "1",
        }
        self.environment.pop("PYTHONPATH", None)  # as a user's shell has it

    def start(self, *words: str) -> Running:
        """ansible-playbook in the background."""
        log = Path(tempfile.mkstemp(dir=self.runs.parent, suffix=".out")[1])
        return Running(["ansible-playbook", *words], self.environment, log)

    def play(self, *words: str, code: int | None = 0) -> Played:
        """ansible-playbook to its end."""
        return self.start(*words).finish(code)

    def run(self, experiment: str | Path, *words: str, code: int | None = 0) -> Played:
        return self.play("run_experiment.yml", "-e", f"experiment={experiment}", *words, code=code)

    def record(self, run_id: str) -> Path:
        return self.runs / run_id

    def newest(self) -> str:
        """The run whose record was made last."""
        found = sorted(self.runs.glob("*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
        assert found, f"no run in {self.runs}"
        return found[-1].parent.name

    def query(self, run_id: str, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the run's merged database."""
        with sqlite3.connect(f"file:{self.record(run_id) / 'experiments.db'}?mode=ro", uri=True) as database:
            return database.execute(sql).fetchall()

    def events(self, run_id: str, kind: str) -> list[dict[str, Any]]:
        lines = (self.record(run_id) / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]


@pytest.fixture(scope="session")
def project(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Project:
    tiny_model.ensure(CACHE / "models" / "tiny.gguf")
    return Project(tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def _clean_nodes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test leaves running or broken is healed and stopped, so that each starts on free nodes."""
    yield
    if "cluster" in request.fixturenames:
        nodes: Cluster = request.getfixturevalue("cluster")
        nodes.heal(*NODES)
        nodes.up()
        with ThreadPoolExecutor(len(NODES)) as pool:
            list(pool.map(lambda name: on(nodes, name, "sh", "-c", FORGET), NODES))


# Ends whatever runs and forgets it, so that each test starts on nodes with all their room. Where nothing runs, what has
# ended stays: it takes no room, and the tests of one run look at it one after the other.
FORGET = """
rm -rf /var/lib/jarfleet/controllers /run/jarfleet/leases
units=$(cd /etc/systemd/system && ls -d jarfleet-* 2>/dev/null) || exit 0
systemctl stop jarfleet.slice $units
cd /etc/systemd/system && rm -f $units multi-user.target.wants/jarfleet-*
systemctl daemon-reload
systemctl reset-failed
rm -rf /home/jar/brain-in-jar/instances /home/jar/brain-in-jar/copies
rm -rf /var/lib/jarfleet/credentials /var/lib/jarfleet/probes /run/jarfleet/copies
"""


def on(cluster: Cluster, node: str, *command: str) -> str:
    """What a command prints on a node, run from outside of it (no ssh)."""
    return cluster.exec(node, *command).stdout


def eventually(what: str, condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for a condition; its value once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    pytest.fail(f"{what}: not within {seconds:.0f} s")


def write_experiment(folder: Path, **changes: Any) -> Path:
    """An experiment file: split_brain, changed."""
    text = yaml.safe_load((ROOT / "experiments" / "split_brain.yml").read_text())
    for key, value in changes.items():
        text[key] = {**text[key], **value} if isinstance(value, dict) and key in text else value
    path = folder / f"{text['name']}.yml"
    path.write_text(yaml.safe_dump(text))
    return path


def own_program(folder: Path, source: str, *arguments: str) -> list[str]:
    """The options that make every instance run this program instead of the workload."""
    code = folder / "code"
    code.mkdir()
    (code / "main.py").write_text(source)
    command = ["/usr/bin/python3", "main.py", *arguments]
    return ["-e", json.dumps({"experiment_code_src": str(code), "experiment_command": command})]


def snapshot(cluster: Cluster, node: str) -> str:
    """Every file that a run could have touched on a node, with its date."""
    places = ["/home/jar", "/opt", "/etc/systemd/system"]
    return on(cluster, node, "find", *places, "-not", "-path", "*/.ansible*", "-printf", "%p %T@ %s %m\n")
