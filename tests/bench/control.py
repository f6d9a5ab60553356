"""What the control loop costs: `make bench-control`, or `python -m tests.bench.control`, on the test nodes.

The loop attends 4, 20 and 50 nodes for a minute each, of which nothing runs: the four test nodes, each attended in as
many work dirs as it takes. Beside it, in the same run: `ssh node true` over a connection that is open already, which is
the least that any check from a controller can cost. CPU is that of this machine for the controller (loop and its ssh
processes), and that of the nodes' control groups for the nodes, less what they take when nobody attends them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.base.text_table import table
from fleet.control.desired_store import DesiredStore
from fleet.control.loop_file import LoopFile, NodeToAttend, folder_of
from tests.integration.conftest import FORGET, NODES, Project, eventually, on
from tests.nodes import Cluster
from tests.nodes.machine import CGROUP_PARENT

SIZES = (4, 20, 50)
SECONDS = 60.0
INTERVAL = 5.0
CALLS = 100
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """CPU seconds and bytes of so many checks, on either side."""

    checks: float
    controller: float
    nodes: float
    traffic: int
    memory_mb: float = 0.0

    def row(self, what: str, base: Cost | None = None) -> tuple[str, ...]:
        """Return it for a person: milliseconds and bytes a check; beside the base, how many times as much."""

        def shown(value: float, other: float) -> str:
            times = f" ({value / other:.1f} x)" if other else ""
            return f"{value:.2f}{times}"

        mine = (1000 * self.controller / self.checks, 1000 * self.nodes / self.checks, self.traffic / self.checks)
        theirs = (0.0, 0.0, 0.0)
        if base:
            theirs = (1000 * base.controller / base.checks, 1000 * base.nodes / base.checks, base.traffic / base.checks)
        cells = [shown(*pair) for pair in zip(mine[:2], theirs[:2], strict=True)]
        traffic = f"{mine[2]:.0f}" + (f" ({mine[2] / theirs[2]:.1f} x)" if theirs[2] else "")
        return (what, *cells, traffic, f"{self.memory_mb:.0f}" if self.memory_mb else "")


class Nodes:
    """The test nodes, with what they take."""

    def cpu(self) -> float:
        """Return the CPU seconds that all nodes have taken so far: their containers are in one control group."""
        old = Path("/sys/fs/cgroup/cpuacct", CGROUP_PARENT, "cpuacct.usage")  # cgroup v1
        if old.exists():
            return int(old.read_text()) / 1e9
        words = Path("/sys/fs/cgroup", CGROUP_PARENT, "cpu.stat").read_text().split()
        return int(words[words.index("usage_usec") + 1]) / 1e6

    def idle(self) -> float:
        """Return the CPU seconds a second of all nodes when nobody attends them."""
        before, began = self.cpu(), time.monotonic()
        time.sleep(SECONDS / 2)
        return (self.cpu() - before) / (time.monotonic() - began)


def main() -> int:
    """Measure, print, and return the exit status."""
    cluster = Cluster()
    cluster.up()
    for node in NODES:
        on(cluster, node, "sh", "-c", FORGET)
    folder = Path(tempfile.mkdtemp(prefix="control."))
    (folder / "runs").mkdir()
    project = Project(folder / "runs")
    project.play("playbooks/control.yml", "-e", "state=started", "-e", "takeover=true")
    project.play("playbooks/control.yml", "-e", "state=stopped")
    os.environ["XDG_STATE_HOME"] = project.environment["XDG_STATE_HOME"]
    file = LoopFile.of(folder_of("brain-in-jar-virtual"))
    nodes = Nodes()
    idle = nodes.idle()
    bare = true_over_ssh(file.nodes, nodes, idle)
    rows = [bare.row("ssh node true")]
    for size in SIZES:
        made = attended(cluster, file, size)
        rows.append(loop_of(replace(file, nodes=made, interval_seconds=INTERVAL), folder / str(size), nodes, idle).row(
            f"the loop, {size} nodes", bare
        ))  # fmt: skip
        print(f"{size} nodes: measured", file=sys.stderr)
    print(table(("a check of a node", "controller, CPU-ms", "node, CPU-ms", "bytes", "the loop, MB"), rows))
    return 0


def attended(cluster: Cluster, file: LoopFile, size: int) -> dict[str, NodeToAttend]:
    """Return so many nodes: the test nodes, again and again, each time in another work dir."""
    found = {}
    for number in range(size):
        name = NODES[number % len(NODES)]
        work_dir = f"/home/jar/bench-{number // len(NODES)}"
        on(cluster, name, "mkdir", "-p", work_dir)
        found[f"{name}-{number // len(NODES)}"] = replace(file.nodes[name], work_dir=work_dir)
    return found


def loop_of(file: LoopFile, folder: Path, nodes: Nodes, idle: float) -> Cost:
    """Run the loop for a while, and return what it costs."""
    file.write(folder)
    with (folder / "loop.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "fleet.control", str(folder)], stdout=log, stderr=log)
    try:
        eventually("it hears of all", lambda: _hears_of_all(folder, file), 60)
        time.sleep(INTERVAL)
        with _measured(nodes, idle) as cost:
            family = [process.pid, *_children(process.pid)]
            before = sum(map(_cpu, family))
            time.sleep(SECONDS)
            controller = sum(map(_cpu, family)) - before
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        memory = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    checks = len(file.nodes) * SECONDS / INTERVAL
    return Cost(checks, controller, cost[0], int(cost[1]), memory / 1024)


def _hears_of_all(folder: Path, file: LoopFile) -> bool:
    links = DesiredStore(folder).read().links
    return set(links) == set(file.nodes) and not any(links.values())


def true_over_ssh(commands: Mapping[str, NodeToAttend], nodes: Nodes, idle: float) -> Cost:
    """Run `true` on the nodes, over connections that are open already, and return what it costs."""
    with tempfile.TemporaryDirectory() as folder:
        bases = {name: _ssh(node.command, f"{folder}/{name}") for name, node in commands.items()}
        masters = []
        for base in bases.values():
            masters.append(subprocess.Popen([*base[:-1], "-N", "-M", base[-1]], stdin=subprocess.DEVNULL))
            eventually("the connection is open", lambda base=base: not subprocess.call([*base, "true"]))  # type: ignore[misc]
        with _measured(nodes, idle) as cost:
            before = sum(_cpu(master.pid) for master in masters)
            children = os.times()
            for number in range(CALLS):
                subprocess.run([*bases[NODES[number % len(NODES)]], "true"], stdin=subprocess.DEVNULL, check=True)
            after = os.times()
            spent = after.children_user + after.children_system - children.children_user - children.children_system
            controller = spent + sum(_cpu(master.pid) for master in masters) - before
        for master in masters:
            master.terminate()
            master.wait()
    return Cost(CALLS, controller, cost[0], int(cost[1]))


def _ssh(command: Sequence[str], socket: str) -> list[str]:
    """Return the loop's ssh command for a node, by a connection that is shared, without what it runs there."""
    words = list(command[:-1])
    shared = {"ControlMaster=no": "ControlMaster=no", "ControlPath=none": f"ControlPath={socket}"}
    return [shared.get(word, word) for word in words]


@contextlib.contextmanager
def _measured(nodes: Nodes, idle: float) -> Iterator[list[float]]:
    """Yield a list that then has the nodes' CPU seconds, less those of their idling, and the bytes on the network."""
    found: list[float] = []
    cpu, traffic, began = nodes.cpu(), _traffic(), time.monotonic()
    yield found
    found += [nodes.cpu() - cpu - idle * (time.monotonic() - began), _traffic() - traffic]


def _traffic() -> int:
    """Return the bytes that went over the test nodes' network, both ways."""
    route = subprocess.run(["ip", "-o", "route", "get", "10.77.0.11"], capture_output=True, text=True, check=True)
    words = route.stdout.split()
    statistics = Path("/sys/class/net") / words[words.index("dev") + 1] / "statistics"
    return sum(int((statistics / name).read_text()) for name in ("rx_bytes", "tx_bytes"))


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _cpu(pid: int) -> float:
    """Return the CPU seconds of a process; 0 for one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    sys.exit(main())
