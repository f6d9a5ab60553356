"""From a plan to what each node is told: one entry an instance, which Ansible turns into an in-memory host.

Everything that needs deciding is decided here; the unit templates of roles/instance only format it.
"""

from __future__ import annotations

import ipaddress
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.artifacts.releases import WORKLOAD
from placement import Experiment, Fault, Instance, Node, Plan
from placement.model import gb, units
from workload.instance import ConfigError
from workload.instance import Instance as OnNode
from workload.settings import Settings

GB = 2**30
DEFAULT_COMMAND = ("/usr/bin/python3", "-m", "workload")


@dataclass(frozen=True)
class Launch:
    """What all instances of one run share. `models` is {instance: {"sha256", "name"}}."""

    run_id: str
    experiment: Experiment
    plan: Plan
    release: str  # content hash
    has_code: bool  # the release holds the user's own code
    models: Mapping[str, Mapping[str, str]]
    command: Sequence[str] = ()  # instead of the built-in workload
    auto_restart: bool = True

    @classmethod
    def of(
        cls,
        run_id: str,
        experiment: Experiment,
        plan: Plan,
        checked: Mapping[str, Any],
        hostvars: Mapping[str, Mapping[str, Any]],
    ) -> Launch:
        """From what the action `experiment` found. `experiment` has its sizes, `hostvars` are the nodes'."""
        return cls(
            run_id=run_id,
            experiment=experiment,
            plan=plan,
            release=checked["release"]["hash"],
            has_code=checked["release"]["source"] != WORKLOAD,
            models=checked["models"],
            command=checked["command"],
            auto_restart=(next(iter(hostvars.values())).get("failover") or {}).get("auto_restart", True),
        )


class Company:
    """Who knows of whom in an experiment, by id."""

    def __init__(self, experiment: Experiment) -> None:
        self.all = tuple(instance.id for instance in experiment.instances)
        self.observers = experiment.observers

    def known_to(self, id: str) -> tuple[str, ...]:
        """All of the run, itself among them, but not those who observe it."""
        observers = self.observers.get(id)
        return tuple(other for other in self.all if other not in observers) if observers else self.all

    def peers_of(self, instance: Instance) -> list[str]:
        """Whom it may talk to: nobody that is observed, since at its port is its tap."""
        if instance.network == "isolated":
            return []
        return [id for id in self.all if id != instance.id and id not in self.observers]


def instance_hosts(
    launch: Launch,
    nodes: Sequence[Node],
    hostvars: Mapping[str, Mapping[str, Any]],
    states: Mapping[str, Mapping[str, Any] | None],
) -> list[dict[str, Any]]:
    """One entry an instance, in file order: {"name": "a@jetson", "instance_spec": {...}} for `add_host`.

    `nodes` are the placement nodes by measure and declaration, `hostvars` the inventory's words (ssh_user,
    remote_work_dir, llama_cpp_builds), `states` what node_state measured.
    """
    by_name, company = {node.name: node for node in nodes}, Company(launch.experiment)
    addresses = {
        name: node_address(hostvars[name], states.get(name) or {}) for name in launch.plan.assignments.values()
    }
    return [
        {
            "name": f"{instance.id}@{node}",
            "instance_spec": _instance(
                launch, instance, by_name[node], hostvars[node], states.get(node) or {}, addresses, company
            ),
        }
        for instance in launch.experiment.instances
        for node in [launch.plan.assignments[instance.id]]
    ]


def launched_as(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What of an `instance_spec` decides how the instance runs, whatever the run's id and the folders on the node."""
    arguments: dict[str, str] = {}
    for word in shlex.split(spec["llama_args"].replace(spec["dir"], "<dir>").replace(spec["work_dir"], "<work_dir>")):
        name = word if re.match(r"--?[a-z]", word) else next(reversed(arguments))
        arguments[name] = "" if word == name else word
    return {
        "node": spec["node"],
        "seed": spec["description"]["seed"],
        "command": spec["command"],
        "llama_args": arguments,
        **{key: spec[key] for key in ("memory_bytes", "cpu_quota_percent", "restart")},
    }


def workload_faults(experiment: Experiment, own_command: bool, own_code: bool) -> list[Fault]:
    """What is wrong with what the instances shall run: a command without code is fine, code without a command is not.

    Without a command they run the built-in workload, whose settings are checked here as it will check them on the node.
    """
    source = str(experiment.path)
    if own_command or experiment.command:
        return []
    if own_code:
        return [
            Fault(
                "experiment_code_src",
                "",
                "given without a command; add experiment_command, or command in the experiment file",
            )
        ]
    faults, company = [], Company(experiment)
    for instance in experiment.instances:
        on_node = OnNode(
            "", instance.id, Path(), Path(), "", peers=dict.fromkeys(company.peers_of(instance), "http://peer"),
            observes=dict.fromkeys(instance.observes, "http://tap"), instances=company.known_to(instance.id),
            workload=dict(experiment.workload), config=dict(instance.config), context_size=instance.context_size,
        )  # fmt: skip
        try:
            Settings.of(on_node)
        except ConfigError as error:
            faults += [Fault(source, f"instances.{instance.id}", problem) for problem in str(error).split("; ")]
    return faults


def node_address(hostvars: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """The address by which other nodes reach this one: as declared, else Ansible's if it is one, else as measured."""
    if declared := hostvars.get("node_address"):
        return str(declared)
    try:
        address = ipaddress.ip_address(str(hostvars.get("ansible_host", "")))
        if not address.is_loopback:
            return str(address)
    except ValueError:  # a host name: systemd's IPAddressAllow wants an address
        pass
    return str(state.get("address") or "127.0.0.1")


def server_args(model: str, port: int, context_size: int, threads: int, checkpoints: str) -> list[str]:
    """How every llama-server is started; `placement.adapters.gguf_memory` estimates what it then needs."""
    return [
        "--model", model, "--host", "127.0.0.1", "--port", str(port), "--ctx-size", str(context_size),
        "--parallel", "1", "--cache-ram", "0", "--threads", str(threads), "--metrics", "--slot-save-path", checkpoints,
    ]  # fmt: skip


def exec_line(words: Sequence[str]) -> str:
    """A command as systemd's ExecStart= wants it: each word quoted, `%` and `$` without their special meaning."""
    return " ".join(
        '"'
        + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$").replace("\n", "\\n")
        + '"'
        for word in words
    )


def _instance(
    launch: Launch,
    instance: Instance,
    node: Node,
    hostvars: Mapping[str, Any],
    state: Mapping[str, Any],
    addresses: Mapping[str, str],
    company: Company,
) -> dict[str, Any]:
    plan, run_id, id = launch.plan, launch.run_id, instance.id
    work_dir = str(hostvars["remote_work_dir"])
    folder = f"{work_dir}/instances/{run_id}/{id}"
    release = f"{work_dir}/releases/{launch.release}"
    ports = plan.ports[id]
    uses_gpu = node.gpu and instance.gpu != "none"
    takes_ram, _ = node.takes(units(instance.ram_gb), units(instance.gpu_memory_gb), uses_gpu)
    cores = min(node.cpu_cores, state.get("cores") or node.cpu_cores)
    share = min(cores, instance.cpu_cores or cores / node.max_instances)
    at = {other: addresses[where] for other, where in plan.assignments.items()}
    url = {other: f"http://{address}:{plan.ports[other]['peer']}" for other, address in at.items()}
    observers = company.observers.get(id, [])
    beside_subject = any(plan.assignments[subject] == node.name for subject in instance.observes)
    llama_url = f"http://127.0.0.1:{ports['llama']}"
    model = f"{work_dir}/models/{launch.models[id]['sha256']}.gguf"
    build = hostvars["llama_cpp_builds"][hostvars["llama_cpp_build"]]
    threads = max(1, math.floor(share))
    llama_args = server_args(model, ports["llama"], instance.context_size, threads, f"{folder}/checkpoints")
    llama_args += build.get("server_args", []) if uses_gpu else []
    description = {
        "run_id": run_id,
        "experiment": launch.experiment.name,
        "id": id,
        "instances": list(company.known_to(id)),
        "node": node.name,
        "dir": folder,
        "database": f"{folder}/experiments.db",
        "llama_url": llama_url,
        "port": ports["peer"],
        "ports": dict(ports),
        "peers": {other: url[other] for other in company.peers_of(instance)},
        "observes": {subject: url[subject] for subject in instance.observes},
        "workload": dict(launch.experiment.workload),
        "config": dict(instance.config),
        "seed": instance.seed if instance.seed is not None else 1,
        "context_size": instance.context_size,
        "model": {"path": model, "sha256": launch.models[id]["sha256"]},
        "release": launch.release,
        "resources": {
            "ram_gb": instance.ram_gb,
            "takes_ram_gb": gb(takes_ram),
            "gpu_memory_gb": instance.gpu_memory_gb,
            "uses_gpu": uses_gpu,
            "cpu_cores": share,
        },
    }
    return {
        "run_id": run_id,
        "id": id,
        "node": node.name,
        "description": description,
        "work_dir": work_dir,
        "dir": folder,
        "release_dir": release,
        "model": model,
        "working_dir": f"{release}/code" if launch.has_code else release,
        "owner": str(hostvars["ssh_user"]),
        "command": exec_line(launch.command or launch.experiment.command or DEFAULT_COMMAND),
        "llama_args": exec_line(llama_args),
        "memory_bytes": int(gb(takes_ram) * GB),  # what the plan counts: on unified memory the GPU's part is in it
        "cpu_quota_percent": max(1, round(share * 100)),
        "restart": "on-failure" if launch.auto_restart else "no",
        # systemd denies every other address; None: no restriction. A tap's address is that of its subject's node.
        "allowed_addresses": {
            "isolated": ["localhost", *sorted({at[subject] for subject in instance.observes})],
            "peers": ["localhost", *sorted(set(addresses.values()))],
            "open": None,
        }[instance.network],
        "observed": bool(observers),
        "units": ["slice", "llama", "workload", *(["tap"] if observers else [])],
        "seclusion": "observed" if observers else "beside_subject" if beside_subject else "none",
        "tap_addresses": sorted({at[id], *(at[observer] for observer in observers)}),
        # What must answer before the instance counts as started. The node itself asks the tap, at the same address.
        "health": {"llama": f"{llama_url}/health", **({"tap": f"{url[id]}/health"} if observers else {})},
        "room": {
            "ram_gb": node.ram_gb - node.reserved_ram_gb,
            "gpu_memory_gb": node.usable_gpu_memory_gb,
            "max_instances": node.max_instances,
        },
    }
