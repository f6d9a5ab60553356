"""One run that lasts, looked after by a control loop, on the test nodes: faults and moves happen to it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet.control.desired_store import DesiredStore
from fleet.control.one_at_a_time import holder
from tests.integration.conftest import FORGET, NODES, Project, eventually, on, write_experiment
from tests.integration.test_59_control import done, round_of
from tests.nodes import Cluster

CHECKPOINT_SECONDS = 60
FAILOVER = {"enabled": True, "checkpoint_store": "host", "checkpoint_interval_seconds": CHECKPOINT_SECONDS}
TALK_SECONDS = 20.0  # in which two minds that run come to another round


class EndlessRun:
    """A run of two minds that would last for hours, and the loop that looks after it."""

    def __init__(self, folder: Path, name: str, **changes: Any) -> None:
        """changes: to the experiment, as `write_experiment` has them."""
        self.cluster, self.project = Cluster(), Project(folder / "runs")
        self.cluster.up()
        for node in NODES:
            on(self.cluster, node, "sh", "-c", FORGET)
        (folder / "runs").mkdir()
        self.loop = Path(self.project.environment["XDG_STATE_HOME"]) / "jarfleet" / "control" / "brain-in-jar-virtual"
        self.start_loop("-e", "takeover=true")  # another one may have had these nodes
        workload = {"rounds": 1_000_000, "pause_seconds": 1}
        experiment = write_experiment(folder, name=name, workload=workload, **changes)
        self.project.run(experiment, "-e", "detach=true")
        self.run = self.project.newest()
        eventually("it runs", self.is_settled)

    def start_loop(self, *words: str) -> None:
        """Start the loop, unless it runs; also while nodes do not answer."""
        if holder(self.loop) is None:
            failover = json.dumps({"failover": FAILOVER})
            self.project.play("playbooks/control.yml", "-e", "state=started", "-e", failover, *words, code=None)

    def places(self) -> dict[str, str]:
        """{instance: the node where the loop wants it}."""
        return {key.id: one.node for key, one in DesiredStore(self.loop).read().instances.items()}

    def is_settled(self) -> bool:
        """Whether both minds run where the loop wants them, hear each other, and nothing is left of what was before."""
        stored = DesiredStore(self.loop).read().runs.get(self.run)
        if stored is None or stored.acting or stored.starter or not stored.launched:
            return False
        told = self.project.play("playbooks/status.yml", code=None).output
        lines = [line.split() for line in told.splitlines() if line.strip().startswith(self.run)]
        found = {id: node for _, id, node, status, *_ in lines if status == "RUNNING"}
        if len(lines) != 2 or found != self.places() or "is left from epoch" in told:
            return False
        before, deadline = self._rounds(), time.monotonic() + TALK_SECONDS
        while not all(now > before[id] for id, now in self._rounds().items()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True

    def _rounds(self) -> dict[str, int]:
        """{instance: the round that it is in}."""
        return {id: round_of(self.cluster, self.run, id, node) for id, node in self.places().items()}

    def kill_loop(self) -> None:
        """`kill -9`, at whatever it is, and start it again."""
        if (found := holder(self.loop)) and found.pid:
            os.kill(found.pid, signal.SIGKILL)
            eventually("it has ended", lambda: holder(self.loop) is None)
        self.start_loop()

    def end(self) -> list[str]:
        """Stop the run, and look at what came home. Return what is wrong with it."""
        self.project.play("playbooks/stop.yml", "-e", f"run={self.run}")
        eventually("it is home", lambda: done(self.loop, self.run, "collects"), 120)
        self.project.play("playbooks/control.yml", "-e", "state=stopped")
        wrong = []
        databases = self.project.record(self.run) / "db"
        for id in "ab":
            epochs = sorted(databases.glob(f"{id}.e*.db"), key=lambda path: int(path.stem.partition(".e")[2]))
            lives = [_times_of_rounds(path) for path in (*epochs, databases / f"{id}.db")]
            rounds = list(lives[-1])
            if rounds != list(range(1, len(rounds) + 1)):
                wrong.append(f"{id}: a round is missing, or there twice")
            lost = []
            for path, (earlier, later) in zip(epochs, itertools.pairwise(lives), strict=True):
                gone, after = _only_in(earlier, later), _only_in(later, earlier)
                if after and min(after) <= max(earlier.values(), default=0.0):
                    wrong.append(f"{path}: a row in it is younger than the first row of the epoch that followed")
                lost.append((len(gone), max(gone) - min(gone) if gone else 0.0))
            print(f"{id}: {len(rounds)} rounds; {len(lost)} epochs have come home from nodes that were lost")
            if lost:
                most, longest = (max(one) for one in zip(*lost, strict=True))
                print(f"{id}: {sum(rows for rows, _ in lost)} rounds of these are in no checkpoint")
                print(f"{id}: at most {most} of one epoch, made in at most {longest:.1f} s (of {CHECKPOINT_SECONDS} s)")
        return wrong


def _only_in(one: dict[int, float], other: dict[int, float]) -> list[float]:
    """Return when the rows of one database were written that the other has not, or has written at another time."""
    return [time for number, time in one.items() if other.get(number) != time]


def _times_of_rounds(database: Path) -> dict[int, float]:
    """Return {round: when its row was written, in seconds}."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        rows = db.execute("SELECT round, timestamp FROM system_metrics ORDER BY 1").fetchall()
    return {number: datetime.fromisoformat(time).timestamp() for number, time in rows}
