"""Build Nodes from the Ansible inventory: host variables, completed by values measured on the nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from contract.node_state import NodeState
from contract.statuses import HEALTHY, MAINTENANCE, UNAVAILABLE
from placement.adapters.schemas import dotted, schema_faults
from placement.faults import BadInput, Fault
from placement.model import Node, gb, natural, units
from placement.problem import PORT_RANGE

Hostvars = Mapping[str, Mapping[str, Any]]
States = Mapping[str, NodeState | None]

NUMBERS = ("ram_gb", "reserved_ram_gb", "gpu_memory_gb", "cpu_cores", "max_instances")
FLAGS = ("gpu", "node_simulated", "node_maintenance")
WORDS = ("node_type", "gpu_memory")
MAX_NODES = 10_000  # limit for one cluster; Ansible itself takes 1.6 ms and 35 kB for each
AT_MOST = f"at most {MAX_NODES:,} nodes are supported"
TOLERANCE = 1.1  # kernels and firmware keep part of a machine's nominal memory


def nodes_from_hostvars(hostvars: Hostvars, states: States | None = None, source: str = "inventory") -> list[Node]:
    """Return the nodes declared by the host variables of group `nodes`, completed from and checked against states.

    states=None: only declared values count. Otherwise a node without a measured state did not answer: UNAVAILABLE.
    `source` names the inventory in faults. Raises BadInput with every fault of every node.
    """
    faults: list[Fault] = []
    nodes: list[Node] = []
    if len(hostvars) > MAX_NODES:
        raise BadInput([too_many(source, len(hostvars))])
    if not hostvars:
        faults.append(Fault(source, "nodes", "the group has no hosts; declare at least one node in it"))
    for name in sorted(hostvars, key=natural):
        declared = _declared(hostvars[name])
        found = schema_faults("node", declared, source, partial(_key, name))
        if not found:
            state = states.get(name) if states is not None else None
            problems = _problems(declared, state, states is not None)
            found = [Fault(source, f"nodes.{name}.{key}", problem) for key, problem in problems.items()]
            if not found:
                nodes.append(_node(str(name), declared, state, states is not None))
        faults += found
    if faults:
        raise BadInput(faults)
    return nodes


def agreed(hostvars: Hostvars, key: str, source: str = "inventory") -> Any:
    """Return a cluster-wide setting as plain values; None if no node has it. Raises BadInput if nodes differ on it."""
    values: dict[str, Any] = {}  # by the first node that has it
    for name in sorted(hostvars, key=natural):
        declared = plain(hostvars[name].get(key))
        if declared is not None and declared not in values.values():
            values[name] = declared
    if len(values) > 1:
        raise BadInput([Fault(source, key, f"nodes {' and '.join(values)} differ on it; give one for all")])
    return next(iter(values.values()), None)


def port_range_from_hostvars(hostvars: Hostvars, source: str = "inventory") -> tuple[int, int]:
    """Return the cluster's `peer_port_range` (first, last), both included. Raises BadInput if nodes differ on it."""
    numbers = {
        name: {**variables, "peer_port_range": _numbers(variables.get("peer_port_range"))}
        for name, variables in hostvars.items()
    }
    found = agreed(numbers, "peer_port_range", source) or dict(zip(("start", "end"), PORT_RANGE, strict=True))
    faults = schema_faults("node", {"peer_port_range": found}, source)
    if not faults and found["start"] > found["end"]:
        faults = [Fault(source, "peer_port_range", f"start {found['start']} is above end {found['end']}; swap them")]
    if faults:
        raise BadInput(faults)
    return int(found["start"]), int(found["end"])


def node_status(hostvars: Mapping[str, Any], state: NodeState | None) -> str:
    """Return a node's status: MAINTENANCE set by a user takes precedence; a node without a state is UNAVAILABLE."""
    if flag(hostvars.get("node_maintenance")) is True:
        return MAINTENANCE
    return state.status if state else UNAVAILABLE


def too_many(source: str, nodes: int) -> Fault:
    """Return the fault for an inventory of more than MAX_NODES nodes."""
    return Fault(source, "nodes", f"{nodes:,} hosts; {AT_MOST}. Is a range such as n[00:99] too wide?")


def _key(name: str, path: Sequence[str | int]) -> str:
    """Return the key of a fault: `nodes.rpi1.ram_gb`."""
    return dotted(["nodes", name, *path])


def _declared(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the host variables declare for the node, as plain values; null means not declared."""
    readers = dict.fromkeys(NUMBERS, _number) | dict.fromkeys(FLAGS, flag) | dict.fromkeys(WORDS, plain)
    values = {key: read(variables.get(key)) for key, read in readers.items()}
    return {key: value for key, value in values.items() if value is not None}


def plain(value: Any) -> Any:
    """Return a value without Ansible's tags: subclasses of str, int, dict, ... become the plain types."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    return value


def _numbers(value: Any) -> Any:
    """Return a mapping with numeric values converted to numbers; return anything else unchanged."""
    value = plain(value)
    return {key: _number(item) for key, item in value.items()} if isinstance(value, dict) else value


def _number(value: Any) -> Any:
    """Convert a value to a number, also from a numeric string, which is what `-e` and Jinja give."""
    value = plain(value)
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value


def flag(value: Any) -> Any:
    """Convert a value to a boolean, also from "true" and "false", which is what `-e` and Jinja give."""
    value = plain(value)
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


def _problems(declared: Mapping[str, Any], state: NodeState | None, measured: bool) -> dict[str, str]:
    """Return faults that a schema cannot express, by key: sizes compared with each other and with measured ones."""
    problems = {}
    ram = declared.get("ram_gb", state.ram_gb or None if state else None)
    reserved = declared.get("reserved_ram_gb", 0)
    if ram is None and not measured:
        problems["ram_gb"] = (
            "missing; give the node's RAM in GB (2**30 bytes), or let the plan playbook measure it on the node"
        )
    if ram is not None and reserved >= ram:
        problems["reserved_ram_gb"] = f"{reserved} of {ram} GB leaves nothing; give less than ram_gb"
    gpu = declared.get("gpu", state.gpu.present if state else measured)
    if declared.get("gpu_memory_gb") and not gpu:
        problems["gpu_memory_gb"] = f"{declared['gpu_memory_gb']} without a GPU; add gpu: true, or leave it out"
    if state is not None and not declared.get("node_simulated", False):
        problems |= _beyond(declared, state)
    return problems


def _beyond(declared: Mapping[str, Any], state: NodeState) -> dict[str, str]:
    """Return faults for declared sizes that exceed the measured ones, by key."""
    mend = "correct it, leave it out to use what is measured, or set node_simulated: true"
    gpu = state.gpu
    beyond = {}
    for key, has in (("ram_gb", state.ram_gb), ("gpu_memory_gb", gpu.memory_gb)):
        if has and declared.get(key, 0) > has * TOLERANCE:
            beyond[key] = f"{declared[key]} is more than the {has:.1f} GB that the node has; {mend}"
    if declared.get("cpu_cores", 0) > state.cores:
        beyond["cpu_cores"] = f"{declared['cpu_cores']} is more than the {state.cores} that the node has; {mend}"
    if declared.get("gpu") and not gpu.present:
        why = f"its GPU cannot be used: {gpu.problem}" if gpu.problem else "the node has no GPU"
        beyond["gpu"] = f"true, but {why}; {mend}"
    if declared.get("gpu_memory") == "discrete" and gpu.memory == "unified":
        beyond["gpu_memory"] = f"discrete, but the node's memory is unified; {mend}"
    return beyond


def _node(name: str, declared: Mapping[str, Any], state: NodeState | None, measured: bool) -> Node:
    """Build the node from declared values, else measured ones, and what running instances have allocated."""
    has = state or NodeState(UNAVAILABLE)
    node = Node(
        name=name,
        node_type=declared.get("node_type", "generic"),
        ram_gb=declared.get("ram_gb", has.ram_gb),
        reserved_ram_gb=declared.get("reserved_ram_gb", 0),
        gpu=declared.get("gpu", has.gpu.present),
        gpu_memory_gb=declared.get("gpu_memory_gb", has.gpu.memory_gb),
        gpu_memory=declared.get("gpu_memory", has.gpu.memory or ""),
        cpu_cores=declared.get("cpu_cores", has.cores),
        max_instances=int(declared.get("max_instances", 1)),
        status=node_status(declared, state) if measured or declared.get("node_maintenance") else HEALTHY,
    )
    held = [one for one in has.instances if one.alive]
    taken = [node.takes(units(one.ram_gb), units(one.gpu_memory_gb), one.uses_gpu) for one in held]
    return replace(
        node,
        current_instances=len(held),
        allocated_ram_gb=gb(sum(ram for ram, _ in taken)),
        allocated_gpu_memory_gb=gb(sum(gpu_memory for _, gpu_memory in taken)),
        used_ports=frozenset(port for one in has.instances for port in one.held_ports),
    )
