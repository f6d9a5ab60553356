"""`python -m tests.chaos.killed [--times 20] [--seed 1]`: `kill -9` of playbooks at random moments, on the test nodes.

In turn: a migration of a mind that the control loop looks after, a launch that it would look after, and a launch that
nobody would. Then, with nobody's help, the mind runs on one node; the launch has become a run that is whole, or nothing
is left of it. What is left of a launch that nobody looks after is shown by `status` and ended by `stop`.

Prints a line each. Exits with 1 when anything of this does not hold.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fleet.control.desired_store import DesiredStore
from tests.chaos.endless_run import EndlessRun
from tests.integration.conftest import ROOT, eventually, write_experiment

LONGEST_SECONDS = 15.0  # of a launch, or a migration
SETTLE_SECONDS = 180


class Killed(EndlessRun):
    """A run that lasts, and playbooks beside it that are killed."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, "lasting")
        self.random = random.Random(seed)  # noqa: S311
        workload = {"rounds": 1_000_000, "pause_seconds": 1}
        self.cared_for = write_experiment(folder, name="cared_for", workload=workload)
        self.autonomous = write_experiment(folder, name="autonomous", workload=workload, movable=False)

    def kill(self, *words: str) -> float:
        """Begin a playbook, and kill it with all its processes after a while. Return after how long."""
        process = subprocess.Popen(
            ["ansible-playbook", *words],
            cwd=ROOT, env=self.project.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        seconds = self.random.uniform(0.5, LONGEST_SECONDS)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return seconds

    def migration(self) -> str:
        """Kill one; the mind must run on one node all the same."""
        to = "rpi1" if self.places()["b"] == "rpi2" else "rpi2"
        seconds = self.kill("playbooks/migrate.yml", "-e", f"run={self.run}", "-e", "instance=b", "-e", f"to={to}")
        eventually("both run", self.is_settled, SETTLE_SECONDS)
        return f"after {seconds:.1f} s: b runs on {self.places()['b']}"

    def launch_cared_for(self) -> str:
        """Kill one; the loop must clean up, or have it if it had started as a whole."""
        seconds, run = self._killed_launch(self.cared_for)
        if not run:
            return f"after {seconds:.1f} s: it had not begun"
        eventually("it is whole, or gone", lambda: self._statuses(run) in ([], ["RUNNING"] * 2), SETTLE_SECONDS)
        whole = bool(self._statuses(run))
        self.project.play("playbooks/stop.yml", "-e", f"run={run}", code=None)
        eventually("the loop is done with it", lambda: run not in DesiredStore(self.loop).read().runs, SETTLE_SECONDS)
        return f"after {seconds:.1f} s: {'it runs' if whole else 'nothing is left of it'}"

    def launch_autonomous(self) -> str:
        """Kill one; status must show what there is of it, and stop end it."""
        seconds, run = self._killed_launch(self.autonomous)
        if not run:
            return f"after {seconds:.1f} s: it had not begun"
        seen = self._statuses(run)
        self.project.play("playbooks/stop.yml", "-e", f"run={run}", code=None)
        eventually("nothing is left", lambda: not self._statuses(run), SETTLE_SECONDS)
        return f"after {seconds:.1f} s: {len(seen)} instances were there, and are stopped"

    def _killed_launch(self, experiment: Path) -> tuple[float, str]:
        """Kill a launch; return after how long, and its run, empty if it had made no record yet."""
        before = set(self.project.runs.iterdir())
        seconds = self.kill("run_experiment.yml", "-e", f"experiment={experiment}", "-e", "detach=true")
        made = {path.name for path in set(self.project.runs.iterdir()) - before}
        return seconds, next((name for name in made if not name.startswith(".")), "")

    def _statuses(self, run: str) -> list[str]:
        """Return the status of each instance of a run that is alive."""
        told = self.project.play("playbooks/status.yml", "-e", f"run={run}", code=None).output
        lines = [line.split() for line in told.splitlines() if line.strip().startswith(run)]
        return [line[3] for line in lines if line[3] in ("RUNNING", "PENDING", "CRASHED")]


def main() -> int:
    """Kill them, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.killed", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="killed."))
    print(f"seed {given.seed}; records and logs are in {folder}")
    run = Killed(folder, given.seed)
    kinds = itertools.cycle((run.migration, run.launch_cared_for, run.launch_autonomous))
    for number, kind in zip(range(given.times), kinds, strict=False):
        print(f"{number + 1}: {kind.__name__} killed {kind()}", flush=True)
    wrong = run.end()
    print("\n".join(wrong) or "nothing was left, and no round is missing")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
