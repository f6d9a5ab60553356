"""How long a move takes: `make bench-moving`, or `python -m tests.bench.moving [--times 20]`, on the test nodes.

First a person moves an instance so many times to another node (`migrate.yml`), then its node is cut off so many times,
and the control loop moves it. Its peer lives on meanwhile. Times are the controller's, by the run's events and the
loop's log. Prints median and worst, and the parts of which a failover consists. In the end a run whose instance was
moved again and again is compared with one of the same seed that was not.

    --model FILE    instead of the generated model; one thread for each llama-server
"""

from __future__ import annotations

import argparse
import itertools
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet.base.files import file_sha256
from fleet.base.text_table import table
from tests.chaos.endless_run import EndlessRun
from tests.integration.conftest import NODES, Project, eventually, on, write_experiment
from tests.integration.test_59_control import done

Figures = Mapping[str, float]
# The nodes share two cores, and llama-server waits by spinning.
ONE_THREAD = [
    {"id": "a", "ram_gb": 1, "cpu_cores": 1, "preferred_node": "jetson", "network": "peers"},
    {"id": "b", "ram_gb": 1, "cpu_cores": 1, "anti_affinity": ["a"], "network": "peers"},
]
PARTS = {
    "waiting": ("lost", "begins", "until nothing that was sent lets the old one act"),
    "plan": ("begins", "moves", "the nodes are read, the plan is made, the new place is made ready"),
    "restore": ("moves", "resumed", "the record; the checkpoint is at home already"),
    "start": ("resumed", "launched", "the checkpoint is sent, the peer is told, the instance starts and is healthy"),
    "allowed to resumed": ("begins", "launched", "what the issue of it counts"),
}


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.moving", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    times, folder = given.times, Path(tempfile.mkdtemp(prefix="moving."))
    print(f"records and logs are in {folder}", file=sys.stderr)
    changes: dict[str, Any] = {"model": {"path": str(given.model)}, "instances": ONE_THREAD} if given.model else {}
    run = EndlessRun(folder, "moving", **changes)
    pauses = [migrated(run, number) for number in range(times)]
    print(table(("migrations", "median", "worst"), [(str(times), *middle_and_worst(pauses))]), flush=True)
    failovers = [failed_over(run, number) for number in range(times)]
    rows = [
        (part, *middle_and_worst([one[until] - one[since] for one in failovers]), what)
        for part, (since, until, what) in PARTS.items()
    ]
    print(table((f"{times} failovers", "median", "worst", "what it is"), rows))
    recovered = [one["rows"].get("system_metrics", 0) for one in run.project.events(run.run, "recovered")]
    print(f"rounds after the checkpoint, kept beside what counts: {sum(recovered)} in {len(recovered)} losses")
    wrong = run.end()
    print("\n".join(wrong) or "no round is missing, and none is there twice", flush=True)
    print(compared(run.project, folder, **changes))
    if given.model:  # the tests know what they have put on the nodes
        for node in NODES:
            sent = f"/home/jar/brain-in-jar/models/{file_sha256(given.model)}.gguf"
            on(run.cluster, node, "rm", "-f", sent)
    return bool(wrong)


def migrated(run: EndlessRun, number: int) -> float:
    """Move b to the other Raspberry Pi; return its pause in seconds."""
    to = "rpi1" if run.places()["b"] == "rpi2" else "rpi2"
    told = run.project.play("playbooks/migrate.yml", "-e", f"run={run.run}", "-e", "instance=b", "-e", f"to={to}")
    found = re.search(rf"b +{to} +([\d.]+) s\b", told.output, re.MULTILINE)
    assert found, told.output
    print(f"migration {number + 1}: to {to}, a pause of {found[1]} s", file=sys.stderr)
    eventually("it has gone on", run.is_settled, 60)
    return float(found[1])


def compared(project: Project, folder: Path, **changes: Any) -> str:
    """Return what compare.yml says of a run whose b is moved until it is complete, and of one that stays."""
    workload = {"rounds": 30, "pause_seconds": 1, "temperature": 0}
    experiment = write_experiment(folder, name="compared", workload=workload, **changes)
    project.run(experiment)
    stays, moves = project.newest(), 0
    project.run(experiment, "-e", "detach=true")
    moved = project.newest()
    for to in itertools.cycle(("rpi2", "rpi1")):
        told = project.play(
            "playbooks/migrate.yml", "-e", f"run={moved}", "-e", "instance=b", "-e", f"to={to}", code=None
        )
        if "paused" not in told.output:
            break
        moves += 1
    eventually("it is complete", lambda: "RUNNING" not in project.play("playbooks/status.yml").output, 600)
    project.play("playbooks/fetch.yml", "-e", f"run={moved}")
    told = project.play("playbooks/compare.yml", "-e", f"runs={stays},{moved}", code=None)
    exact = sum(one["came"]["kept"] == one["came"]["tokens"] - 1 for one in project.events(moved, "restored"))
    (said,) = re.findall(r"^ +(\S+ and \S+: .*transcript.*)$", told.output, re.MULTILINE)
    return f"{moves} moves, {exact} of them token for token: {said}"


def failed_over(run: EndlessRun, number: int) -> dict[str, float]:
    """Cut off the node of b, and mend it once b is elsewhere; return when each step of the move was."""
    node, moves = run.places()["b"], done(run.loop, run.run, "moves")
    began = time.time()
    run.cluster.cut(node)
    eventually("it is moved", lambda: done(run.loop, run.run, "moves") > moves, 180)
    run.cluster.heal(node)
    eventually("the old node is cleaned", run.is_settled, 180)
    times = {kind: [seconds(one["time"]) for one in run.project.events(run.run, kind)] for kind in STEPS}
    at = {kind: next(time for time in found if time > began) for kind, found in times.items()}
    log = (run.loop / "loop.log").read_text().splitlines()
    begins = [line for line in log if line.endswith(f"{run.run}: moves")][-1]
    at["begins"] = datetime.strptime(begins[:23], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()
    at["lost"] = at.pop("node_lost")
    print(f"failover {number + 1}: {at['launched'] - at['begins']:.1f} s from {node}", file=sys.stderr)
    return at


STEPS = ("node_lost", "moves", "resumed", "launched")


def seconds(time: Any) -> float:
    """Return the time of an event, in seconds."""
    return datetime.fromisoformat(time).timestamp()


def middle_and_worst(found: Iterable[float]) -> tuple[str, str]:
    """Return median and worst, for a person."""
    known = list(found)
    return f"{statistics.median(known):.1f} s", f"{max(known):.1f} s"


if __name__ == "__main__":
    sys.exit(main())
