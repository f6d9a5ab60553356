"""A hostile instance harms nobody: what its code tries on its node, and what its files try on the controller."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from contract.names import UNITS
from tests.integration.conftest import Project, eventually, on, own_program
from tests.nodes import Cluster

PROGRAM = Path(__file__).with_name("hostile.py")
FORGED = "forged"


class Attacked:
    """A run with a hostile instance and its victim on one node, fetched and stopped after the attacks."""

    def __init__(self, project: Project, cluster: Cluster, folder: Path) -> None:
        experiment = folder / "siege.yml"
        experiment.write_text(
            "name: siege\ninstances: [{id: hostile, ram_gb: 1, network: isolated}, {id: victim, ram_gb: 1}, "
            "{id: filler, ram_gb: 1, disk_gb: 0.1}]\n"
        )
        pins = ("-e", "placement=hostile:jetson,victim:jetson,filler:jetson")
        project.run(experiment, *own_program(folder, PROGRAM.read_text()), *pins, "-e", "detach=true")
        self.run_id = project.newest()
        self.record = project.record(self.run_id)
        self.run = f"/home/jar/brain-in-jar/instances/{self.run_id}"
        findings = f"{self.run}/hostile/findings.json"
        found = json.loads(eventually("the attacks are over", lambda: on(cluster, "jetson", "cat", findings), 120))
        filled = f"{self.run}/filler/outcome.json"
        self.filled = json.loads(eventually("the filler is stopped", lambda: on(cluster, "jetson", "cat", filled)))
        self.size = int(on(cluster, "jetson", "du", "--summarize", "--block-size=1", f"{self.run}/filler").split()[0])
        self.findings: dict[str, str] = found["attacks"]
        signalled = [f"/proc/{pid}" for pid in found["signalled"]]
        self.signalled = set(on(cluster, "jetson", "stat", "-c", "%U", *signalled).split())
        self.before = {name: (self.record / name).read_bytes() for name in ("manifest.json", "plan.json")}
        self.alive = {
            verb: project.play(f"playbooks/{verb}.yml", "-e", f"run={self.run_id}", *more, code=None).output
            for verb, more in {
                "status": (),
                "fetch": (),
                "logs": ("-e", "instance=hostile", "-e", "follow=false"),
            }.items()
        }
        verbose = project.play("playbooks/status.yml", "-e", f"run={self.run_id}", "-vvv", code=None)
        self.alive["status -vvv"] = verbose.output
        units = [f"jarfleet-{self.run_id}-{id}-{unit}.service" for id in ("hostile", "victim") for unit in UNITS]
        self.exposure = [on(cluster, "jetson", "systemd-analyze", "security", "--no-pager", unit) for unit in units]
        self.owners = on(
            cluster, "jetson", "stat", "-c", "%U", f"{self.run}/hostile/mine", f"{self.run}/victim/experiments.db"
        )
        project.play("playbooks/stop.yml", "-e", f"run={self.run_id}")
        self.ended = project.play("playbooks/fetch.yml", "-e", f"run={self.run_id}", code=None).output
        self.left = on(cluster, "jetson", "find", self.run, "(", "!", "-user", "root", "-o", "!", "-group", "root", ")")


@pytest.fixture(scope="module")
def attacked(project: Project, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    return Attacked(project, cluster, tmp_path_factory.mktemp("siege"))


def test_no_attack_from_within_succeeds(attacked: Attacked) -> None:
    assert len(attacked.findings) > 75
    succeeded = {name: got for name, got in attacked.findings.items() if not got.startswith("refused")}
    assert succeeded == {}


def test_each_instance_has_a_user_of_its_own_and_leaves_nothing_that_is_its_own(attacked: Attacked) -> None:
    hostile, victim = attacked.owners.split()
    assert hostile != victim
    assert attacked.signalled == {hostile}, "whom it can signal: its own processes"
    assert {hostile[:8], victim[:8]} == {"jarfleet"}
    assert attacked.left == ""


def test_each_unit_is_hardly_exposed_by_the_measure_of_systemd(attacked: Attacked) -> None:
    levels = [float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)[1]) for text in attacked.exposure]
    assert len(levels) == 4
    assert max(levels) <= 2.0, levels


def test_an_instance_cannot_say_that_it_has_ended(attacked: Attacked) -> None:
    """Whatever it writes in outcome.json it holds its room, and so does its neighbour."""
    lines = [line for line in attacked.alive["status"].splitlines() if "RUNNING" in line]
    assert {id for line in lines for id in ("hostile", "victim") if id in line.split()} == {"hostile", "victim"}
    assert "outcome.json: written by the instance, not by its node" in attacked.alive["status"]
    assert "progress.json: not a regular file" in attacked.alive["status"]


@pytest.mark.parametrize("name", ["manifest.json", "plan.json"])
def test_its_files_replace_nothing_of_the_record(attacked: Attacked, name: str) -> None:
    assert (attacked.record / name).read_bytes() == attacked.before[name]


def test_what_it_planted_is_not_taken_and_is_named(attacked: Attacked) -> None:
    brought = {str(path.relative_to(attacked.record)): path for path in attacked.record.rglob("*") if path.is_file()}
    assert [name for name, path in brought.items() if FORGED.encode() in path.read_bytes()] == []
    assert [name for name, path in brought.items() if path.is_symlink()] == []
    assert [name for name in brought if name.startswith("db/hostile")] == []
    stream = attacked.record / "logs/hostile.stream.jsonl"  # swapped with a link all the time
    assert not stream.exists() or set(stream.read_text().splitlines()) == {'{"honest": 1}'}
    faults = (attacked.record / "events.jsonl").read_text()
    assert "db/hostile.db: not collected" in faults
    with sqlite3.connect(f"file:{attacked.record / 'db/victim.db'}?mode=ro", uri=True) as database:
        assert database.execute("SELECT what FROM kept").fetchall() == [("mine",)]


def test_who_fills_its_folder_is_stopped_by_its_own_limit(attacked: Attacked) -> None:
    assert (attacked.filled["outcome"], attacked.filled["reason"]) == ("FAILED", "disk_limit")
    assert attacked.size < 2**30, "a second of writing beyond 0.1 GB"
    exits = (attacked.record / "logs/filler.exits.jsonl").read_text()
    assert '"cause": "disk_limit"' in exits


def test_who_floods_the_journal_takes_no_line_of_its_neighbour(attacked: Attacked) -> None:
    said = (attacked.record / "logs/victim.log").read_text()
    numbers = [int(number) for number in re.findall(r"the victim lives (\d+)", said)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 100


def test_its_words_do_not_act_on_the_terminal(attacked: Attacked) -> None:
    shown: dict[str, Any] = {**attacked.alive, "the end": attacked.ended}
    for verb, output in shown.items():
        assert not {char for char in output if not char.isprintable() and char not in "\n\t"}, verb
