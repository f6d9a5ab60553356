"""Tables for a person, from plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet.base.text_table import table
from fleet.results.deaths import read_deaths
from fleet.results.merge import summary
from placement.adapters.gguf_memory import figure
from workload import ledger

DEATHS_SHOWN = 10


def last_exits(run: Path, instances: Iterable[str]) -> dict[str, str]:
    """How each instance's workload ended the last time, by its node's ledger: {"a": "ended with exit code 78"}."""
    ends = {id: ledger.read(run / "logs" / f"{id}.exits.jsonl", "workload") for id in instances}
    return {id: ledger.words(own[-1]) for id, own in ends.items() if own}


def closing_summary(
    run: Path,
    nodes: Mapping[str, str],
    statuses: Mapping[str, str],
    problems: Mapping[str, str],
    memory: Mapping[str, Mapping[str, Any]],
) -> str:
    """What became of a run and where its results lie. `memory` is what fleet.results.memory_use.measure() returned."""
    counts = summary(run)
    died = read_deaths(run)
    rows = [
        (
            id,
            node,
            statuses.get(id, "-"),
            counts.get("messages", {}).get(id, 0),
            counts.get("self_reports", {}).get(id, 0),
            sum(death["instance"] == id for death in died),
            *(_gb(memory.get(id, {}).get(key)) for key in ("ram_gb", "predicted_gb", "resident_gb")),
            problems.get(id, "-"),
        )
        for id, node in nodes.items()
    ]
    head = ("instance", "node", "status", "messages", "self-reports", "deaths", "GB", "predicted", "peak", "problem")
    lies = [
        ("report", "report.html"),
        ("plan", "plan.json"),
        ("manifest", "manifest.json"),
        ("events", "events.jsonl"),
        ("logs", "logs/"),
        ("databases", "db/"),
        ("merged", "experiments.db"),
        ("memory", "memory.json"),
    ]
    return "\n".join(
        [
            table(head, rows),
            "",
            *_obituaries(died),
            f"results of {run.name}:",
            *(f"  {what:10}{run / where}" for what, where in lies if (run / where).exists()),
        ]
    )


def _obituaries(died: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a death, the newest of many, and an empty one."""
    if not died:
        return []
    rows = [
        (
            f"  {death['instance']}",
            death["unit"],
            death["life"],
            death["detail"],
            "-" if death["lived_seconds"] is None else f"{death['lived_seconds']:.1f} s",
            *("-" if death[of] is None else f"{death[of]:.0f} MB" for of in ("memory_peak_mb", "memory_limit_mb")),
        )
        for death in died[-DEATHS_SHOWN:]
    ]
    more = f"; the last {DEATHS_SHOWN}" if len(died) > DEATHS_SHOWN else ""
    told = table(("  instance", "unit", "life", "died", "after", "peak", "limit"), rows)
    return [f"deaths: {len(died)}{more}", *told.splitlines(), ""]


def _gb(size: float | None) -> str:
    return "-" if size is None else figure(size)
