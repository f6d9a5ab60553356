"""The cluster as Ansible's variables describe it: the nodes, what was measured on them, and the common settings."""

from __future__ import annotations

import ipaddress
import json
import re
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from contract import ContractError
from contract.json_records import shown
from contract.names import USER, work_dir_problem
from contract.node_state import NodeState
from contract.promises import PROMISES, Promises
from contract.statuses import DEGRADED
from fleet.artifacts.node_program import sha256
from fleet.observe import service_words
from placement import BadInput, Fault, Node, nodes_from_hostvars, port_range_from_hostvars
from placement.adapters.hostvars import MAX_NODES, agreed, flag, node_status, plain, too_many

# Settings of the whole cluster: {section: {key: (allowed types, default)}}.
SECTIONS: dict[str, dict[str, tuple[tuple[type, ...], Any]]] = {
    "health_check": {"enabled": ((bool,), True), "interval_seconds": ((int, float), 30)},
    "failover": {
        "enabled": ((bool,), True),
        "auto_restart": ((bool,), True),
        "most_lost_percent": ((int, float), 50),
        "checkpoint_interval_seconds": ((int, float), 300),
        "checkpoint_store": ((str,), ""),
    },
}
DEFAULT_NAME = "jarfleet"  # cluster_name
POSITIVE = {"interval_seconds", "checkpoint_interval_seconds"}
OLD_PROGRAM = (
    "its program is another version's: deploy.yml brings this one's, or, where the SSH user may not become root,"
    " bootstrap.yml"
)
NODE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,252}", re.ASCII)
NEEDED = ("ssh_user", "remote_work_dir", "llama_cpp_build", "llama_cpp_builds")  # node variables needed for launching


@dataclass(frozen=True)
class ClusterSettings:
    """Settings of the whole cluster: cluster_name, and what stands in `failover` and `health_check`."""

    name: str
    auto_restart: bool  # restart a process that died, on its own node
    failover: bool  # start what was on a lost node elsewhere
    most_lost_percent: float
    checkpoint_seconds: float
    checkpoint_store: str  # the node that keeps a copy of what runs need to go on; empty: none does
    interval_seconds: float


@dataclass(frozen=True)
class Host:
    """How a node is reached and where it keeps what, for launching on it."""

    name: str
    owner: str
    work_dir: str
    address: str  # the address by which other nodes reach it
    gpu_arguments: tuple[str, ...] = ()  # for llama-server, if the instance uses a GPU
    build_key: str = ""  # the key of its llama.cpp build; empty until its builder was asked
    build_decides: Mapping[str, Any] = field(default_factory=dict)
    build_problem: str = "its builder was not asked"
    cores: int | None = None  # as measured


@dataclass(frozen=True)
class Cluster:
    """The nodes of an inventory with what was measured on them; a state of None: the node did not answer."""

    hostvars: Mapping[str, Mapping[str, Any]]
    states: Mapping[str, NodeState | None]
    source: str = "inventory"
    state_faults: Mapping[str, str] = field(default_factory=dict)  # {node: why its state cannot be read}

    @classmethod
    def from_task_vars(cls, task_vars: Mapping[str, Any]) -> Cluster:
        """Return the cluster from a plugin's task variables. Raise BadInput if there are more than MAX_NODES nodes."""
        hostvars, names = task_vars["hostvars"], task_vars["groups"].get("nodes", [])
        if len(names) > MAX_NODES:
            raise BadInput([too_many("inventory", len(names))])
        variables = {str(name): hostvars[name] for name in names}
        for name, word in service_words.read(_name_of(variables)).items():
            if name in variables and word:
                variables[name] = ChainMap({"node_maintenance": True}, variables[name])
        return cls.from_hostvars(variables)

    @classmethod
    def from_hostvars(cls, hostvars: Mapping[str, Mapping[str, Any]]) -> Cluster:
        """Return the cluster from the nodes' host variables. An unreadable state counts as no answer."""
        states: dict[str, NodeState | None] = {}
        faults = {}
        for name, variables in hostvars.items():
            try:
                states[name] = _state(name, variables)
            except ContractError as error:
                states[name], faults[name] = None, str(error)
        files = (variables.get("inventory_file") for variables in hostvars.values())
        return cls(hostvars, states, str(next(filter(None, files), "inventory")), faults)

    def degraded(self, reasons: Mapping[str, str]) -> Cluster:
        """Return the cluster with these nodes DEGRADED for these reasons, as far as they answered."""
        states = {
            name: replace(state, status=DEGRADED, reasons=(*state.reasons, reasons[name]))
            if state and name in reasons
            else state
            for name, state in self.states.items()
        }
        return replace(self, states=states)

    def without_run(self, run_id: str) -> Cluster:
        """Return the cluster as it is once nothing of a run is there: its nodes were asked before that was stopped."""
        states = {
            name: replace(state, instances=tuple(one for one in state.instances if one.run_id != run_id))
            if state
            else None
            for name, state in self.states.items()
        }
        return replace(self, states=states)

    @property
    def names(self) -> list[str]:
        """The nodes' names."""
        return list(self.hostvars)

    @cached_property
    def nodes(self) -> list[Node]:
        """The nodes in the form that `placement` takes, as declared and measured. Raises BadInput."""
        return nodes_from_hostvars(self.hostvars, self.states, self.source)

    @property
    def ports(self) -> tuple[int, int]:
        """The first and last port to assign. Raises BadInput."""
        return port_range_from_hostvars(self.hostvars, self.source)

    @property
    def settings(self) -> ClusterSettings:
        """The cluster's settings. Raises BadInput if nodes differ on one."""
        declared = {section: agreed(self.hostvars, section, self.source) or {} for section in SECTIONS}

        def setting(section: str, key: str) -> Any:
            return declared[section].get(key, SECTIONS[section][key][1])

        return ClusterSettings(
            name=str(agreed(self.hostvars, "cluster_name", self.source) or DEFAULT_NAME),
            auto_restart=setting("failover", "auto_restart"),
            failover=setting("failover", "enabled"),
            most_lost_percent=float(setting("failover", "most_lost_percent")),
            checkpoint_seconds=float(setting("failover", "checkpoint_interval_seconds")),
            checkpoint_store=str(setting("failover", "checkpoint_store")),
            interval_seconds=float(setting("health_check", "interval_seconds")),
        )

    @property
    def statuses(self) -> dict[str, str]:
        """{node: its status}."""
        return {name: node_status(variables, self.states[name]) for name, variables in self.hostvars.items()}

    @property
    def silent(self) -> list[str]:
        """The nodes that did not answer, or whose answer cannot be read."""
        return [name for name, status in self.statuses.items() if status == "UNAVAILABLE"]

    def host(self, name: str) -> Host:
        """Return how to launch on a node."""
        variables, state = self.hostvars[name], self.states[name]
        build = variables["llama_cpp_builds"][variables["llama_cpp_build"]]
        asked = self.hostvars.get(str(variables.get("llama_cpp_built_by", name)), {})
        built = plain(asked.get("llama_cpp_built")) or {}
        return Host(
            name=name,
            owner=str(variables["ssh_user"]),
            work_dir=str(variables["remote_work_dir"]),
            address=_address(variables, state),
            gpu_arguments=tuple(str(word) for word in build.get("server_args", [])),
            build_key=str(built.get("key") or ""),
            build_decides=built.get("decides") or {},
            build_problem=str(built.get("msg", Host.build_problem)).strip(),
            cores=state.cores if state else None,
        )

    def wanted_build(self, name: str) -> str:
        """Return what the variables of a node say of its llama.cpp; nodes where they say the same share a build."""
        variables = self.hostvars[name]
        asked = [key for key in variables if key.startswith("llama_cpp_") and not key.startswith("llama_cpp_built")]
        return json.dumps({key: plain(variables[key]) for key in asked}, sort_keys=True, default=str)

    def faults(self) -> list[Fault]:
        """Return what is wrong with the variables that only launching needs, each named once."""
        found: dict[tuple[str, str], Fault] = {}
        for name, variables in self.hostvars.items():
            if not NODE_NAME.fullmatch(name):
                problem = "letters, digits, _ . : and - only, and at most 253 of them; rename the host"
                found[name, ""] = Fault(self.source, f"nodes.{shown(name)}", problem)
            if name == "localhost":
                problem = "the name of the controller itself; give the node another, with ansible_host: 127.0.0.1"
                found[name, ""] = Fault(self.source, f"nodes.{name}", problem)
            for key in NEEDED:
                if not variables.get(key):
                    problem = "missing; declare it for the node or its group"
                    found[name, key] = Fault(self.source, f"nodes.{name}.{key}", problem)
            for key, problem in _problems(variables).items():
                found[name, key] = Fault(self.source, f"nodes.{name}.{key}", problem)
            build, builds = variables.get("llama_cpp_build"), variables.get("llama_cpp_builds") or {}
            if build and (not isinstance(build, str) or build not in builds):
                known = ", ".join(sorted(builds))
                problem = f"{shown(build)} is none of {known}"
                found[name, "build"] = Fault(self.source, f"nodes.{name}.llama_cpp_build", problem)
        try:
            port_range_from_hostvars(self.hostvars, self.source)
        except BadInput as error:
            found |= {("", fault.key): fault for fault in error.faults}
        for section, keys in SECTIONS.items():
            try:
                agreed(self.hostvars, section, self.source)
            except BadInput as error:
                found["", section] = error.faults[0]
            for variables in self.hostvars.values():
                declared = plain(variables.get(section)) or {}
                found |= {("", fault.key): fault for fault in _section_faults(self.source, section, keys, declared)}
        if not found and (store := self.settings.checkpoint_store) and store not in self.names:
            problem = f"{shown(store)} is no node; there are {', '.join(self.names)}"
            found["", "checkpoint_store"] = Fault(self.source, "failover.checkpoint_store", problem)
        return list(found.values())


def _name_of(hostvars: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the cluster's name, as the first node has it."""
    return str(next((variables.get("cluster_name") for variables in hostvars.values()), None) or DEFAULT_NAME)


def _state(name: str, variables: Mapping[str, Any]) -> NodeState | None:
    """Return a node's state as measured; DEGRADED if it cannot promise what instances need. Raise ContractError."""
    measured = (variables.get("node_probe") or {}).get("state")
    if not measured:
        return None
    state = NodeState.from_json(measured, name)
    tried = variables.get("node_promised") or {}
    sent = variables.get("node_programmed") or {}
    if state.promises is None and "promises" in tried:
        state = replace(state, promises=Promises.from_json(tried["promises"], f"{name}: promises"))
    if flag(variables.get("accept_weaker_isolation")) is True:
        return state
    if state.program and state.program != sha256() and not sent.get("changed"):
        state = replace(state, reasons=(*state.reasons, OLD_PROGRAM))
    if sent.get("failed"):
        lacking = [f"its program could not be brought to this version: {_last_line(sent)}"]
    elif state.promises is None and not state.program:
        return state  # a node that is new: it is asked when it gets its program, before instances are placed
    elif state.promises is None:
        lacking = [f"what it can promise is not known: {_last_line(tried)}"]
    else:
        needed = [PROMISES[key] for key in state.promises.needed]
        lacking = [f"cannot promise that {one.words}: {one.cure}" for one in needed]
    if not lacking:
        return state
    reasons = (*state.reasons, *lacking, "or accept it with accept_weaker_isolation=true")
    return replace(state, status=DEGRADED, reasons=reasons)


def _last_line(result: Mapping[str, Any]) -> str:
    """Return the end of what a task that failed says."""
    return (str(result.get("msg", "")).strip().splitlines() or ["it was not asked"])[-1]


def _problems(variables: Mapping[str, Any]) -> dict[str, str]:
    """Return {variable: what is wrong with its value} of those that become part of a path, a unit or an address."""
    found = {}
    user, work_dir, address = (variables.get(key) for key in ("ssh_user", "remote_work_dir", "node_address"))
    if user and not USER.fullmatch(str(user)):
        found["ssh_user"] = f"{shown(user)} is not the name of a user"
    if work_dir and (problem := work_dir_problem(str(work_dir))):
        found["remote_work_dir"] = f"{shown(work_dir)} {problem}; write it as in /home/pi/jarfleet"
    accepted = variables.get("accept_weaker_isolation")
    if accepted is not None and not isinstance(flag(accepted), bool):
        found["accept_weaker_isolation"] = f"{shown(accepted)} is neither true nor false"
    if address and not _is_ip(str(address)):
        found["node_address"] = f"{shown(address)} is not an IP address"
    return found


def _is_ip(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _section_faults(
    source: str, section: str, keys: Mapping[str, tuple[tuple[type, ...], Any]], declared: Any
) -> list[Fault]:
    """Return what is wrong with one section of the cluster's settings."""
    if not isinstance(declared, Mapping):
        return [Fault(source, section, f"{declared!r} is not a mapping of {', '.join(keys)}")]
    unknown = [
        Fault(source, f"{section}.{key}", f"unknown; known are {', '.join(keys)}") for key in declared.keys() - keys
    ]
    return (
        unknown
        + [
            Fault(source, f"{section}.{key}", f"{declared[key]!r} is of the wrong type")
            for key, (kinds, _) in keys.items()
            if key in declared and not isinstance(declared[key], kinds)
        ]
        + [
            Fault(source, f"{section}.{key}", f"{declared[key]!r} is no interval; give seconds above 0")
            for key in POSITIVE.intersection(declared)
            if isinstance(declared[key], int | float) and not 0 < declared[key] < float("inf")
        ]
    )


def _address(hostvars: Mapping[str, Any], state: NodeState | None) -> str:
    """Return the address by which other nodes reach this one: declared, else Ansible's if an IP, else measured."""
    if declared := hostvars.get("node_address"):
        return str(declared)
    try:
        address = ipaddress.ip_address(str(hostvars.get("ansible_host", "")))
        if not address.is_loopback:
            return str(address)
    except ValueError:  # a host name: systemd's IPAddressAllow wants an address
        pass
    return (state.address if state else "") or "127.0.0.1"
