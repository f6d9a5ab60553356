"""`python -m tests.chaos [--schedules 50] [--seed 1]`: random faults against the control loop, on the test nodes.

One run that would last for hours, looked after by a loop. A schedule is one or two faults of nodes (power cut, freeze,
cut off, reboot, a partition between two nodes) and in most of them `kill -9` of the loop, each at a random moment. Then
all is mended, and both minds must run where the loop wants them within three minutes, with nothing left from before.
Every process of both minds is watched from outside all the time: never may one be on two nodes at once (a node that
hangs keeps its process, which cannot act). In the end no round of the minds may be missing, or be there twice, and what
one epoch has written must be older than all that the next one has written.

Prints a line a schedule. Exits with 1 when anything of this does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.endless_run import EndlessRun
from tests.integration.conftest import NODES
from tests.integration.test_59_control import Watch
from tests.nodes import Cluster

FAULTS = ("cut", "freeze", "power_cut", "reboot", "partition")
LONGEST_SECONDS = 60.0  # of a fault: an instance is moved after 28 s in the middle, 38 s at worst
SETTLE_SECONDS = 180.0


@dataclass(frozen=True)
class Fault:
    """One fault of a node, and how long it lasts."""

    kind: str
    node: str
    other: str  # of a partition
    seconds: float

    def begin(self, cluster: Cluster) -> None:
        """Let it happen."""
        if self.kind == "partition":
            cluster.partition(self.node, self.other)
        else:
            getattr(cluster, self.kind)(self.node)

    def mend(self, cluster: Cluster) -> None:
        """End it."""
        if self.kind == "freeze":
            cluster.thaw(self.node)
        elif self.kind == "power_cut":
            cluster.start(self.node)
        elif self.kind != "reboot":
            cluster.heal(self.node)

    def __str__(self) -> str:
        between = f" and {self.other}" if self.kind == "partition" else ""
        return f"{self.kind} {self.node}{between} for {self.seconds:.0f} s"


class Chaos(EndlessRun):
    """One run under faults."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.watched_seconds, self.lives = 0.0, 0
        super().__init__(folder, "chaos")

    def schedule(self) -> tuple[list[Fault], float]:
        """Draw one: its faults, and when the loop is killed (below 0: it is not)."""
        places = list(self.places().values())
        nodes = self.random.sample(places, self.random.choice((1, 1, 2)))
        others = [node for node in NODES if node not in nodes]
        faults = [
            Fault(self.random.choice(FAULTS), node, self.random.choice(others), self.random.uniform(2, LONGEST_SECONDS))
            for node in nodes
        ]
        return faults, self.random.uniform(0, LONGEST_SECONDS) if self.random.random() < 0.7 else -1.0

    def play(self, faults: list[Fault], kill: float) -> list[str]:
        """Play one schedule. Return what went wrong."""
        moments: list[tuple[float, Callable[[], None]]] = []
        for fault in faults:
            begins = self.random.uniform(0, 10)
            moments.append((begins, lambda fault=fault: fault.begin(self.cluster)))  # type: ignore[misc]
            moments.append((begins + fault.seconds, lambda fault=fault: fault.mend(self.cluster)))  # type: ignore[misc]
        if kill >= 0:
            moments.append((kill, self.kill_loop))
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            watched = [stack.enter_context(Watch(self.run, id)) for id in self.places()]
            for moment, act in sorted(moments, key=lambda one: one[0]):
                time.sleep(max(0.0, began + moment - time.monotonic()))
                act()
            self.start_loop()
            deadline = time.monotonic() + SETTLE_SECONDS
            while not (settled := self.is_settled()) and time.monotonic() < deadline:
                time.sleep(1)
        self.watched_seconds += time.monotonic() - began
        wrong = [] if settled else [f"not settled {SETTLE_SECONDS:.0f} s after: see {self.loop}"]
        frozen = any(fault.kind == "freeze" for fault in faults)
        for watch in watched:
            lives = watch.in_order()
            self.lives += len(lives)
            if not frozen and any(
                one[0] != two[0] and two[1][0] <= one[1][1] for one, two in itertools.pairwise(lives)
            ):
                wrong.append(f"on two nodes at once: {lives}")
        return wrong


def main() -> int:
    """Play them, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--schedules", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos."))
    print(f"seed {given.seed}; records and logs are in {folder}")
    chaos = Chaos(folder, given.seed)
    wrong = []
    for number in range(given.schedules):
        faults, kill = chaos.schedule()
        found = chaos.play(faults, kill)
        killed = f", the loop killed after {kill:.0f} s" if kill >= 0 else ""
        where = ", ".join(f"{id} on {node}" for id, node in chaos.places().items())
        print(
            f"{number + 1}: {', '.join(map(str, faults))}{killed}: {'; '.join(found) or f'well, {where}'}", flush=True
        )
        wrong += found
        if wrong:
            break  # what it left decides what the next one would find
    wrong += chaos.end()
    print(f"{chaos.lives} lives of processes were watched, for {chaos.watched_seconds:.0f} s")
    print("\n".join(wrong) or f"{given.schedules} schedules: nothing was on two nodes at once, and all of it went on")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
