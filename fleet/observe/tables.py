"""Tables of what the nodes report: the nodes' health, and the instances on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contract.node_state import InstanceState, NodeState
from contract.statuses import FAILED
from fleet.base.text_table import table
from placement.adapters.hostvars import node_status


def node_table(hostvars: Mapping[str, Mapping[str, Any]], states: Mapping[str, NodeState | None]) -> str:
    """Return a table of the nodes' health, one line each."""
    rows = []
    for name, variables in hostvars.items():
        state = states.get(name)
        measured: tuple[str, ...] = ("-", "-", "-", "does not answer")
        if state:
            alive = [one for one in state.instances if one.alive]
            failed = [
                f"{one.id} of {one.run_id} failed" for one in state.instances if one.status == FAILED and not one.ended
            ]
            wrong = [f"{one.id} of {one.run_id}: {one.faults[0]}" for one in alive if one.faults]
            measured = (
                f"{len(alive)}/{variables.get('max_instances', 1)}",
                f"{state.memory_used_percent:.0f} %",
                f"{state.disk_used_percent:.0f} %",
                "; ".join([*state.reasons, *failed, *wrong]) or "-",
            )
        rows.append((name, variables.get("node_type", "generic"), node_status(variables, state), *measured))
    return table(("node", "type", "status", "instances", "memory", "disk", "why"), rows)


def instance_table(instances: Sequence[tuple[str, InstanceState]]) -> str:
    """Return a table of instances, given as (node, instance), one line each."""
    if not instances:
        return "no instances"
    leased = any(one.leased and one.alive for _, one in instances)
    rows = [
        (
            one.run_id,
            one.id,
            node,
            one.status,
            _shown(one.progress.cycle),
            f"{_shown(one.progress.round)}/{_shown(one.progress.rounds)}",
            sum(one.deaths.values()),
            f"{one.ram_gb:g}",
            one.ended or "-",
            *([_lease(one)] if leased else []),
        )
        for node, one in instances
    ]
    names = ("run", "instance", "node", "status", "cycle", "round", "deaths", "GB", "ended")
    return table((*names, "lease") if leased else names, rows)


def _lease(one: InstanceState) -> str:
    """Return how long an instance acts without the control loop."""
    if not (one.leased and one.alive):
        return "-"
    return f"{one.lease_seconds:.0f} s" if one.lease_seconds else "none: it waits for the control loop"


def _shown(value: int | None) -> str | int:
    return "-" if value is None else value
