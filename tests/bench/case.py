"""One case of the benchmark, in this process: `python -m tests.bench.case '{"measure": "greedy", "nodes": 4, ...}'`.

What it measured is the last line of standard output, as JSON. CPU seconds are user and system time of the measured call
alone; `peak_mb` (MB = 2**20 bytes) is the process's, with the interpreter, the libraries and the input in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from placement import Infeasible, Instance, Node, Plan, place
from placement.plan import record
from placement.problem import PORT_RANGE, Problem
from tests.bench.clusters import feasible, of_few_kinds
from tests.bench.exhaustive import exhaustive
from tests.bench.ray_peer import placement_groups

LEAST_S = 0.2  # a call that takes less is repeated until it has taken so much, and the mean counts
EASY = 0.33  # of its size, an instance in an easy case: greedy then finds a plan too


def cluster(seed: int, nodes: int, instances: int, fill: str) -> tuple[list[Node], list[Instance]]:
    """A cluster of tests.bench.clusters: `tight` (no slack), `slack`, `easy` (small instances), or of `few kinds`."""
    if fill == "few kinds":
        return of_few_kinds(seed, nodes, instances)
    there, wanted = feasible(seed, nodes, instances, slack=fill != "tight")
    if fill == "easy":
        wanted = [replace(one, ram_gb=EASY * one.ram_gb, gpu_memory_gb=EASY * one.gpu_memory_gb) for one in wanted]
    return there, wanted


def measure_greedy(nodes: list[Node], instances: list[Instance], cap_s: float) -> dict[str, Any]:
    """`place` as a whole."""
    return _walk(lambda: place(nodes, instances, "greedy", explain=False), cap_s)


def measure_scan(nodes: list[Node], instances: list[Instance], cap_s: float) -> dict[str, Any]:
    """The same with the scan for a search."""

    def scan() -> Plan:
        problem = Problem(nodes, instances, {}, PORT_RANGE)
        return record(problem, "scan", exhaustive(problem), explain=False)

    return _walk(scan, cap_s)


def measure_exact(nodes: list[Node], instances: list[Instance], cap_s: float) -> dict[str, Any]:
    """The exact search with a limit of `cap_s` seconds, and what greedy makes of the same."""
    result: dict[str, Any] = {"greedy": None, "score": None, "bound": None, "proven": False}
    with contextlib.suppress(Infeasible):
        result["greedy"] = place(nodes, instances, "greedy", explain=False).score
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        plan = place(nodes, instances, explain=False, time_limit_s=cap_s)
        result |= {"score": plan.score, "bound": plan.bound, "proven": plan.optimal}
    except Infeasible as refusal:
        result["refused"] = type(refusal).__name__
    return result | {"seconds": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def measure_peer(nodes: list[Node], instances: list[Instance], cap_s: float) -> dict[str, Any]:
    """Seconds from the question to the answer: ours in this process, Ray's from its live cluster."""
    ours = {}
    for strategy in ("greedy", "optimal"):
        start = time.perf_counter()
        plan = place(nodes, instances, strategy, explain=False, time_limit_s=cap_s)
        ours[strategy] = {"seconds": time.perf_counter() - start, "proven": plan.optimal}
    return ours | placement_groups(nodes, instances, cap_s)


MEASURES = {"greedy": measure_greedy, "scan": measure_scan, "exact": measure_exact, "peer": measure_peer}


def _walk(search: Callable[[], Plan], cap_s: float) -> dict[str, Any]:
    """CPU seconds of a search, and a fingerprint of all that it decided. Killed by SIGXCPU after `cap_s`."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + cap_s) + 1, resource.RLIM_INFINITY))
    start, calls = time.process_time(), 0
    while not calls or time.process_time() - start < LEAST_S:
        calls += 1
        try:
            answer, refused = json.dumps(search().assignments), 0
        except Infeasible as refusal:
            answer, refused = json.dumps(refusal.rejections), len(refusal.rejections)
    seconds = (time.process_time() - start) / calls
    return {"cpu_s": seconds, "refused": refused, "answer": hashlib.sha256(answer.encode()).hexdigest()}


def main() -> None:
    case = json.loads(sys.argv[1])
    nodes, instances = cluster(case["seed"], case["nodes"], case["instances"], case["fill"])
    result = MEASURES[case["measure"]](nodes, instances, case["cap_s"])
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result))


if __name__ == "__main__":
    main()
