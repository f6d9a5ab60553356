"""Tables for a person, from plain data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet.merge import summary
from placement.inventory import HOLDING
from placement.memory import figure


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
    """How each instance's workload ended the last time, by what its node wrote down: {"a": "exit-code 78"}."""
    found = {}
    for id in instances:
        path = run / "logs" / f"{id}.exits.jsonl"
        ends = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        for end in ends:
            if end["unit"] == "workload":
                found[id] = f"{end['result']} {end['status']}"
    return found


def closing_summary(
    run: Path,
    nodes: Mapping[str, str],
    statuses: Mapping[str, str],
    problems: Mapping[str, str],
    memory: Mapping[str, Mapping[str, Any]],
) -> str:
    """What became of a run and where its results lie. `memory` is what fleet.memory.measure() returned."""
    counts = summary(run)
    rows = [
        (
            id,
            node,
            statuses.get(id, "-"),
            counts.get("messages", {}).get(id, 0),
            counts.get("self_reports", {}).get(id, 0),
            *(_gb(memory.get(id, {}).get(key)) for key in ("ram_gb", "predicted_gb", "resident_gb")),
            problems.get(id, "-"),
        )
        for id, node in nodes.items()
    ]
    head = ("instance", "node", "status", "messages", "self-reports", "GB", "predicted", "peak", "problem")
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
            f"results of {run.name}:",
            *(f"  {what:10}{run / where}" for what, where in lies if (run / where).exists()),
        ]
    )


def _gb(size: float | None) -> str:
    return "-" if size is None else figure(size)
