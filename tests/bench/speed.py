"""How fast and how good placement is: `make bench-placement`, or `python -m tests.bench.speed`.

Each case runs in a process of its own (tests.bench.case), one after the other. The tables go to standard output,
progress to standard error, every figure to a file of JSON. Environment variables:

BENCH_QUICK  1: a few small cases, to see that it works
BENCH_JSON   where the figures go (default: bench/placement.json in JARFLEET_CACHE)
"""

from __future__ import annotations

import json
import math
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("JARFLEET_CACHE") or "~/.cache/jarfleet").expanduser()
ROOT = Path(__file__).resolve().parents[2]

SIZES = ((4, 7), (40, 70), (40, 700), (400, 700), (400, 7_000), (4_000, 700), (4_000, 7_000), (4_000, 70_000))
QUICK_SIZES = ((4, 7), (40, 70), (40, 700))
FILLS = ("easy", "slack", "tight")
SCAN_CAP_S = 240  # CPU seconds after which the scan is given up
LIMIT_S = 20  # of the exact search
EXACT = {"up to 8 x 20": 300, "10 x 30": 300, "50 x 300": 10, "50 x 200 of few kinds": 10}  # how many random cases
QUICK_EXACT = {"up to 8 x 20": 10, "10 x 30": 3}
PEER_SIZES = ((4, 7), (40, 70), (40, 700))
QUICK_PEER_SIZES = ((4, 7),)
OVERTIME_S = 1_800  # a case without an answer so long after its limit is given up: the machine may be busy

Case = dict[str, Any]


def main() -> None:
    quick = os.environ.get("BENCH_QUICK", "0") not in ("", "0")
    target = Path(os.environ.get("BENCH_JSON") or CACHE / "bench/placement.json")
    figures: dict[str, Any] = {"machine": machine(), "quick": quick}
    figures["search"] = list(measured(search_cases(QUICK_SIZES if quick else SIZES)))
    print(search_table(figures["search"]), growth_table(figures["search"]), sep="\n\n", end="\n\n", flush=True)
    figures["exact"] = list(measured(exact_cases(QUICK_EXACT if quick else EXACT)))
    print(exact_table(figures["exact"]), end="\n\n", flush=True)
    figures["peer"] = list(measured(peer_cases(QUICK_PEER_SIZES if quick else PEER_SIZES)))
    print(peer_table(figures["peer"]), end="\n\n", flush=True)
    figures["machine"]["load_at_the_end"] = os.getloadavg()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"measured on {figures['machine']['processor']}; every figure: {target}")


def machine() -> dict[str, Any]:
    """Where and when it was measured, and what else the machine had to do (load averages)."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit.stdout.strip(),
        "processor": f"{models[0].split(':')[1].strip() if models else platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "load_at_the_start": os.getloadavg(),
    }


def search_cases(sizes: Iterable[tuple[int, int]]) -> list[Case]:
    """greedy and the scan on the same clusters."""
    return [
        {"measure": measure, "nodes": nodes, "instances": instances, "fill": fill, "seed": 1, "cap_s": SCAN_CAP_S}
        for nodes, instances in sizes
        for fill in FILLS
        for measure in ("greedy", "scan")
    ]


def exact_cases(counts: dict[str, int]) -> list[Case]:
    """Random cases that a plan exists for, with and without slack in turn, or of few kinds."""
    cases = []
    for size, count in counts.items():
        for seed in range(count):
            dice = random.Random(seed)  # noqa: S311 - drawn to be repeated, not to be secret
            if size.startswith("up to"):
                nodes, instances = dice.randint(4, 8), dice.randint(7, 20)
            else:
                nodes, instances = map(int, size.removesuffix(" of few kinds").split(" x "))
            fill = "few kinds" if size.endswith("kinds") else ("slack", "tight")[seed % 2]
            case = {"measure": "exact", "nodes": nodes, "instances": instances, "fill": fill, "seed": seed}
            cases.append({"size": size, **case, "cap_s": LIMIT_S})
    return cases


def peer_cases(sizes: Iterable[tuple[int, int]]) -> list[Case]:
    """Clusters on which Ray and both searches find a plan."""
    return [
        {"measure": "peer", "nodes": nodes, "instances": instances, "fill": "easy", "seed": 1, "cap_s": LIMIT_S}
        for nodes, instances in sizes
    ]


def measured(cases: Sequence[Case]) -> Iterator[Case]:
    """Each case with what its process measured: or with `error`, why there is nothing."""
    for number, case in enumerate(cases, start=1):
        start = time.monotonic()
        result = run(case)
        told = result.get("error", f"{time.monotonic() - start:.1f} s")
        what = f"{case['measure']} {case['nodes']:,} x {case['instances']:,} {case['fill']}"
        print(f"[{number}/{len(cases)}] {what}: {told}", file=sys.stderr, flush=True)
        yield case | result


def run(case: Case) -> dict[str, Any]:
    """One case in its process."""
    command = [sys.executable, "-m", "tests.bench.case", json.dumps(case)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=case["cap_s"] + OVERTIME_S)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer after {case['cap_s'] + OVERTIME_S} s"}
    if done.returncode == -signal.SIGXCPU:
        return {"error": f"not done after {case['cap_s']} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def search_table(results: Sequence[Case]) -> str:
    """greedy beside the scan: CPU seconds, memory, ratio, and whether they decided the same."""
    rows = [
        ["nodes x instances", "fill", "refused", "greedy CPU s", "peak MB", "scan CPU s", "peak MB", "ratio", "same"]
    ]
    for greedy, scan in zip(results[::2], results[1::2], strict=True):
        both = "cpu_s" in greedy and "cpu_s" in scan
        rows.append(
            [
                f"{greedy['nodes']:,} x {greedy['instances']:,}",
                greedy["fill"],
                number(greedy.get("refused")),
                number(greedy.get("cpu_s")) if "cpu_s" in greedy else greedy["error"],
                number(greedy.get("peak_mb")),
                number(scan.get("cpu_s")) if "cpu_s" in scan else scan["error"],
                number(scan.get("peak_mb")),
                f"{scan['cpu_s'] / greedy['cpu_s']:,.1f}" if both else "-",
                ("yes" if greedy["answer"] == scan["answer"] else "NO") if both else "-",
            ]
        )
    return table("greedy against a scan of every node (place as a whole: problem, search, record)", rows)


def growth_table(results: Sequence[Case]) -> str:
    """How CPU time grows when the nodes, or the instances, become ten times as many."""
    times = {
        (case["nodes"], case["instances"], case["fill"], case["measure"]): case["cpu_s"]
        for case in results
        if "cpu_s" in case
    }
    rows = [["from", "to", "fill", "greedy", "scan"]]
    sizes = list(dict.fromkeys((case["nodes"], case["instances"]) for case in results))
    steps = [(a, b) for a in sizes for b in sizes if b in ((10 * a[0], a[1]), (a[0], 10 * a[1]))]
    for small, large in steps:
        for fill in FILLS:
            pairs = [(times.get((*small, fill, by)), times.get((*large, fill, by))) for by in ("greedy", "scan")]
            powers = [number(math.log10(later / sooner)) if sooner and later else "-" for sooner, later in pairs]
            rows.append([f"{small[0]:,} x {small[1]:,}", f"{large[0]:,} x {large[1]:,}", fill, *powers])
    return table("growth: CPU time is to this power of what became ten times as many (1: linear)", rows)


def exact_table(results: Sequence[Case]) -> str:
    """The exact search by size: how long, how far from the bound, and what greedy misses."""
    rows = [
        [
            "nodes x instances", "cases", "proven", "no plan", "seconds: median", "95 %", "most", "CPU s: median",
            "gap %: mean", "most", "peak MB", "greedy: no plan", "its mean loss %",
        ]
    ]  # fmt: skip
    for size in dict.fromkeys(case["size"] for case in results):
        cases = [case for case in results if case["size"] == size]
        done = [case for case in cases if "seconds" in case]
        planned = [case for case in done if case["score"] is not None]
        seconds = sorted(case["seconds"] for case in done) or [math.nan]
        gaps = [100 * max(0, case["bound"] - case["score"]) / case["bound"] for case in planned] or [math.nan]
        losses = [100 * (1 - case["greedy"] / case["score"]) for case in planned if case["greedy"] is not None]
        rows.append(
            [
                size,
                f"{len(cases)}",
                f"{sum(case['proven'] for case in done)}",
                f"{len(cases) - len(planned)}",
                number(statistics.median(seconds)),
                number(seconds[math.ceil(0.95 * len(seconds)) - 1]),
                number(seconds[-1]),
                number(statistics.median(case["cpu_s"] for case in done) if done else None),
                f"{statistics.mean(gaps):.2f}",
                f"{max(gaps):.2f}",
                number(max((case["peak_mb"] for case in done), default=None)),
                f"{sum(case['greedy'] is None for case in done)}",
                number(statistics.mean(losses) if losses else None),
            ]
        )
    return table(f"the exact search, limit {LIMIT_S} s (all cases have a plan by construction)", rows)


def peer_table(results: Sequence[Case]) -> str:
    """Seconds until the answer, ours and Ray's."""
    rows = [["nodes x instances", "greedy s", "optimal s", "Ray PACK s", "Ray SPREAD s", "Ray's start s"]]
    for case in results:
        size = f"{case['nodes']:,} x {case['instances']:,}"
        if "error" in case:
            rows.append([size, case["error"]])
            continue
        groups = [case["PACK"], case["SPREAD"]]
        rows.append(
            [
                size,
                number(case["greedy"]["seconds"]),
                number(case["optimal"]["seconds"]) + ("" if case["optimal"]["proven"] else " (unproven)"),
                *("not reserved" if group["seconds"] is None else number(group["seconds"]) for group in groups),
                number(case["start_s"]),
            ]
        )
    note = (
        "Ray's time is from the request until the group is reserved on live raylets (a commit in two phases over\n"
        "gRPC, all on this machine), by resources alone: no score, relations, preferences or reasons, nothing\n"
        "proven. Ours is the decision alone, in the process that asks: it reserves nothing."
    )
    return table("decision latency beside Ray's placement groups, wall seconds", rows) + f"\n{note}"


def number(value: float | None) -> str:
    """A figure for a person: three digits that count."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def table(title: str, rows: Sequence[Sequence[str]]) -> str:
    """A title above right-aligned columns; a row may be shorter than the first."""
    width = len(rows[0])
    columns = [[row[at] for row in rows if at < len(row) and len(row) == width] for at in range(width)]
    widths = [max(map(len, column)) for column in columns]
    lines = ["  ".join(cell.rjust(size) for cell, size in zip(row, widths, strict=False)) for row in rows]
    return "\n".join([title, *lines])


if __name__ == "__main__":
    main()
