"""Tables for a person, from plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet.ledger import deaths
from fleet.merge import summary
from placement.inventory import HOLDING
from placement.memory import figure
from workload import ledger

DEATHS_SHOWN = 10


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns under a head, numbers to the right."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    right = [bool(rows) and all(isinstance(row[column], int | float) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    )


def node_status(hostvars: Mapping[str, Any], state: Mapping[str, Any] | None) -> str:
    """A node's status: a person's word first, then whether it answered, then what it measured."""
    if hostvars.get("node_maintenance"):
        return "MAINTENANCE"
    return str(state["status"]) if state else "UNAVAILABLE"


def node_table(hostvars: Mapping[str, Mapping[str, Any]], states: Mapping[str, Mapping[str, Any] | None]) -> str:
    """The nodes' health, a line each."""
    rows = []
    for name, variables in hostvars.items():
        state = states.get(name)
        measured: tuple[str, ...] = ("-", "-", "-", "does not answer")
        if state:
            alive = [i for i in state["instances"] if i["status"] in HOLDING]
            failed = [
                f"{i['id']} of {i['run_id']} failed"
                for i in state["instances"]
                if i["status"] == "FAILED" and not i["ended"]
            ]
            measured = (
                f"{len(alive)}/{variables.get('max_instances', 1)}",
                f"{state['memory_used_percent']:.0f} %",
                f"{state['disk_used_percent']:.0f} %",
                "; ".join([*state["reasons"], *failed]) or "-",
            )
        rows.append((name, variables.get("node_type", "generic"), node_status(variables, state), *measured))
    return table(("node", "type", "status", "instances", "memory", "disk", "why"), rows)


def instance_table(instances: Sequence[Mapping[str, Any]]) -> str:
    """Instances wherever they are, a line each."""
    if not instances:
        return "no instances"
    rows = [
        (
            i["run_id"],
            i["id"],
            i["node"],
            i["status"],
            i["progress"].get("cycle", "-"),
            f"{i['progress'].get('round', '-')}/{i['progress'].get('rounds', '-')}",
            sum(i["deaths"].values()),
            f"{i['ram_gb']:g}",
            i["ended"] or "-",
        )
        for i in instances
    ]
    return table(("run", "instance", "node", "status", "cycle", "round", "deaths", "GB", "ended"), rows)


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
    """What became of a run and where its results lie. `memory` is what fleet.memory.measure() returned."""
    counts = summary(run)
    died = deaths(run)
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
