"""Tables of what the nodes report: the nodes' health, and the instances on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fleet.base.text_table import table
from placement.adapters.hostvars import HOLDING


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
