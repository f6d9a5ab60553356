"""The cluster is the Ansible inventory: host variables, and what was measured on the nodes, become Nodes."""

import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from placement.faults import BadInput, Fault
from placement.model import STATUSES, Node, gb, natural, units
from placement.problem import PORT_RANGE
from placement.schemas import dotted, schema_faults

Hostvars = Mapping[str, Mapping[str, Any]]
States = Mapping[str, Mapping[str, Any] | None]

NUMBERS = ("ram_gb", "reserved_ram_gb", "gpu_memory_gb", "cpu_cores", "max_instances")
FLAGS = ("gpu", "node_simulated", "node_maintenance")
WORDS = ("node_type", "gpu_memory")
HOLDING = ("PENDING", "RUNNING", "CRASHED")  # instances that hold their memory, slot and ports
MAX_NODES = 10_000  # of one cluster; Ansible itself takes 1.6 ms and 35 kB for each
MAX_BYTES = 8 * 2**20  # of an inventory's files
MAX_LINES = 50 * MAX_NODES
AT_MOST = f"at most {MAX_NODES:,} nodes are supported"
READ_SECONDS = 120  # for ansible-inventory; 10,000 nodes took it 15 CPU-seconds
READ_MEMORY = 4 * 2**30  # bytes of address space; 10,000 nodes took it 0.4 GiB
RANGE = re.compile(r"\[(\d+):(\d+)(?::(\d+))?\]")
TOLERANCE = 1.1  # kernels and firmware keep some of the memory that a machine is sold with


def nodes_from_hostvars(hostvars: Hostvars, states: States | None = None, source: str = "inventory") -> list[Node]:
    """The nodes that the host variables of group `nodes` declare, filled from and checked against measured states.

    states=None: only what is declared counts. Else a node without a state did not answer and is UNAVAILABLE; a state is
    {"status", "ram_gb", "cores", "gpu": {"present", "memory", "memory_gb"}, "instances": [{"status", "ram_gb",
    "gpu_memory_gb", "uses_gpu", "held_ports"}, ...]} as measured on the node, sizes in GB = 2**30 bytes.
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


def port_range_from_hostvars(hostvars: Hostvars, source: str = "inventory") -> tuple[int, int]:
    """The cluster's `peer_port_range` (first, last), both included. Raises BadInput if nodes differ on it."""
    ranges: dict[str, Any] = {}  # by the first node that has it
    for name in sorted(hostvars, key=natural):
        declared = _plain(hostvars[name].get("peer_port_range"))
        if isinstance(declared, dict):
            declared = {key: _number(value) for key, value in declared.items()}
        if declared is not None and declared not in ranges.values():
            ranges[name] = declared
    if len(ranges) > 1:
        raise BadInput(
            [Fault(source, "peer_port_range", f"nodes {' and '.join(ranges)} differ on it; give one for all")]
        )
    found = next(iter(ranges.values()), dict(zip(("start", "end"), PORT_RANGE, strict=True)))
    faults = schema_faults("node", {"peer_port_range": found}, source)
    if not faults and found["start"] > found["end"]:
        faults = [Fault(source, "peer_port_range", f"start {found['start']} is above end {found['end']}; swap them")]
    if faults:
        raise BadInput(faults)
    return int(found["start"]), int(found["end"])


def read_inventory(inventory: str, root: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Host variables of the hosts in group `nodes`, as `ansible-inventory` lists them (templates stay unresolved).

    root: the folder whose group_vars/ and host_vars/ count too. Raises BadInput.
    """
    root = Path(root) if root is not None else project_root()
    if "," not in inventory and not Path(inventory).exists():
        raise BadInput([Fault("inventory", inventory, "does not exist; give a path such as inventory/lab")])
    if faults := _size_faults(inventory):
        raise BadInput(faults)
    beside = Path(sys.executable).with_name("ansible-inventory")
    command = str(beside) if beside.exists() else shutil.which("ansible-inventory")
    if not command:
        raise BadInput([Fault("inventory", inventory, "ansible-inventory is not installed; pip install ansible-core")])
    with subprocess.Popen(  # noqa: S603 - no shell; the command is ours, the inventory is the user's own
        [command, "-i", inventory, "--list", "--playbook-dir", str(root)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own: what a script of the inventory starts is ended with it
        preexec_fn=_bound_memory,
        env={**os.environ, "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1", "ANSIBLE_NOCOLOR": "1"},
    ) as child:
        try:
            listed, said = child.communicate(timeout=READ_SECONDS)
        except subprocess.TimeoutExpired as error:
            problem = (
                f"ansible-inventory was not done in {READ_SECONDS} s; is it too large, or does a script in it hang?"
            )
            raise BadInput([Fault("inventory", inventory, problem)]) from error
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
    if child.returncode != 0:
        problem = f"ansible-inventory cannot read it: {' '.join(said.split())[-600:]}"
        raise BadInput([Fault("inventory", inventory, problem)])
    groups = json.loads(listed)
    hostvars = groups.get("_meta", {}).get("hostvars", {})
    return {name: hostvars.get(name, {}) for name in _members(groups, "nodes")}


def too_many(source: str, nodes: int) -> Fault:
    """An inventory of more than MAX_NODES nodes."""
    return Fault(source, "nodes", f"{nodes:,} hosts; {AT_MOST}. Is a range such as n[00:99] too wide?")


def _size_faults(inventory: str) -> list[Fault]:
    """What shows at a glance that an inventory is too large: Ansible would take hours and all memory over it."""
    size = lines = number = 0
    for number, path in enumerate(_files(inventory), start=1):
        try:
            size += path.stat().st_size
            if size > MAX_BYTES or number > MAX_NODES:
                break
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError:  # ansible-inventory says what is wrong with it
            continue
        lines += text.count("\n")
        if os.access(path, os.X_OK):  # a script, whose output is the inventory
            continue
        for word in re.split(r"[\s,\"']+", re.sub(r"^\s*[#;].*", "", text, flags=re.MULTILINE)):
            if (hosts := math.prod(map(_width, RANGE.findall(word)))) > MAX_NODES:
                return [Fault("inventory", str(path), f"{word[:60].rstrip(':')} names {hosts:,} hosts; {AT_MOST}")]
    if size > MAX_BYTES or number > MAX_NODES or lines > MAX_LINES:
        told = f"more than {MAX_BYTES // 2**20} MiB, {MAX_NODES:,} files or {MAX_LINES:,} lines"
        return [Fault("inventory", inventory, f"{told}; {AT_MOST}")]
    return []


def _files(inventory: str) -> Iterator[Path]:
    """The regular files of an inventory: a file, or all in a folder."""
    for part in inventory.split(","):
        if os.path.isfile(part):  # noqa: PTH113 - Path's own raises for a name too long
            yield Path(part)
        for folder, _, names in os.walk(part):
            yield from (path for name in names if (path := Path(folder, name)).is_file())


def _width(bounds: tuple[str, str, str]) -> int:
    """How many names a range such as [00:99] or [0:98:2] stands for."""
    if max(map(len, bounds)) > 12:
        return 10**12
    first, last, step = (int(bound or 1) for bound in bounds)
    return max(0, last - first) // max(1, step) + 1


def _bound_memory() -> None:
    """In the child, before it becomes ansible-inventory."""
    resource.setrlimit(resource.RLIMIT_AS, (READ_MEMORY, READ_MEMORY))


def project_root() -> Path:
    """The working folder if it holds group_vars/, else the checkout that this package lies in."""
    return Path.cwd() if Path("group_vars").is_dir() else Path(__file__).resolve().parent.parent


def _members(groups: Mapping[str, Any], top: str) -> list[str]:
    """Hosts of a group and of the groups below it."""
    hosts: dict[str, None] = {}
    todo, seen = [top], set()
    while todo:
        group = todo.pop()
        if group not in seen:
            seen.add(group)
            entry = groups.get(group, {})
            hosts.update(dict.fromkeys(entry.get("hosts", [])))
            todo += entry.get("children", [])
    return list(hosts)


def _key(name: str, path: Sequence[str | int]) -> str:
    """`nodes.rpi1.ram_gb`."""
    return dotted(["nodes", name, *path])


def _declared(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What the host variables say of the node, as plain values; what is null is not declared."""
    readers = dict.fromkeys(NUMBERS, _number) | dict.fromkeys(FLAGS, _flag) | dict.fromkeys(WORDS, _plain)
    values = {key: read(variables.get(key)) for key, read in readers.items()}
    return {key: value for key, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    """A value without Ansible's tags: subclasses of str, int, dict, ... become the plain types."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value


def _number(value: Any) -> Any:
    """A number; also of a numeric string, which is what `-e` and Jinja give."""
    value = _plain(value)
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value


def _flag(value: Any) -> Any:
    """A boolean; also of "true" and "false", which is what `-e` and Jinja give."""
    value = _plain(value)
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


def _problems(declared: Mapping[str, Any], state: Mapping[str, Any] | None, measured: bool) -> dict[str, str]:
    """What a schema cannot say, by key: sizes against each other, and against what the node has."""
    problems = {}
    ram = declared.get("ram_gb", (state or {}).get("ram_gb"))
    reserved = declared.get("reserved_ram_gb", 0)
    if ram is None and not measured:
        problems["ram_gb"] = (
            "missing; give the node's RAM in GB (2**30 bytes), or let the plan playbook measure it on the node"
        )
    if ram is not None and reserved >= ram:
        problems["reserved_ram_gb"] = f"{reserved} of {ram} GB leaves nothing; give less than ram_gb"
    gpu = declared.get("gpu", ((state or {}).get("gpu") or {}).get("present", measured))
    if declared.get("gpu_memory_gb") and not gpu:
        problems["gpu_memory_gb"] = f"{declared['gpu_memory_gb']} without a GPU; add gpu: true, or leave it out"
    if state is not None and not declared.get("node_simulated", False):
        problems |= _beyond(declared, state)
    return problems


def _beyond(declared: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, str]:
    """What is declared beyond what the node has, by key."""
    mend = "correct it, leave it out to use what is measured, or set node_simulated: true"
    gpu = state.get("gpu") or {}
    beyond = {}
    for key, has in (("ram_gb", state.get("ram_gb")), ("gpu_memory_gb", gpu.get("memory_gb") if gpu else None)):
        if has and declared.get(key, 0) > has * TOLERANCE:
            beyond[key] = f"{declared[key]} is more than the {has:.1f} GB that the node has; {mend}"
    cores = state.get("cores")
    if cores and declared.get("cpu_cores", 0) > cores:
        beyond["cpu_cores"] = f"{declared['cpu_cores']} is more than the {cores} that the node has; {mend}"
    if declared.get("gpu") and not gpu.get("present"):
        beyond["gpu"] = f"true, but the node has no GPU; {mend}"
    if declared.get("gpu_memory") == "discrete" and gpu.get("memory") == "unified":
        beyond["gpu_memory"] = f"discrete, but the node's memory is unified; {mend}"
    return beyond


def _node(name: str, declared: Mapping[str, Any], state: Mapping[str, Any] | None, measured: bool) -> Node:
    """The node: declared values, else measured ones, and what the instances on it hold."""
    has = state or {}
    gpu = has.get("gpu") or {}
    node = Node(
        name=name,
        node_type=declared.get("node_type", "generic"),
        ram_gb=declared.get("ram_gb", has.get("ram_gb") or 0),
        reserved_ram_gb=declared.get("reserved_ram_gb", 0),
        gpu=declared.get("gpu", bool(gpu.get("present"))),
        gpu_memory_gb=declared.get("gpu_memory_gb", gpu.get("memory_gb") or 0),
        gpu_memory=declared.get("gpu_memory", gpu.get("memory") or ""),
        cpu_cores=declared.get("cpu_cores", has.get("cores") or 1),
        max_instances=int(declared.get("max_instances", 1)),
        status=_status(declared, state, measured),
    )
    held = [instance for instance in has.get("instances", []) if instance["status"] in HOLDING]
    taken = [
        node.takes(units(i.get("ram_gb") or 0), units(i.get("gpu_memory_gb") or 0), bool(i.get("uses_gpu")))
        for i in held
    ]
    return replace(
        node,
        current_instances=len(held),
        allocated_ram_gb=gb(sum(ram for ram, _ in taken)),
        allocated_gpu_memory_gb=gb(sum(gpu_memory for _, gpu_memory in taken)),
        used_ports=frozenset(int(port) for one in has.get("instances", []) for port in one.get("held_ports") or []),
    )


def _status(declared: Mapping[str, Any], state: Mapping[str, Any] | None, measured: bool) -> str:
    """MAINTENANCE is a person's word and wins; a node that did not answer is UNAVAILABLE."""
    if declared.get("node_maintenance", False):
        return "MAINTENANCE"
    if not measured:
        return "HEALTHY"
    status = (state or {}).get("status")
    return status if status in STATUSES else "UNAVAILABLE"
