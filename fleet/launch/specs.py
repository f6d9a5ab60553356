"""Turn a plan into a launch spec for each instance.

All decisions about a launch are made here; `node/` only makes units of them.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract import names
from contract.description import Capacity, InstanceDescription, InstanceRef, Resources
from contract.json_records import Record
from contract.launch_spec import Checkpoint, Inbound, LaunchSpec, Limits, Outbound, Process
from fleet.intake.request import Request
from fleet.intake.workload_settings import Peers
from fleet.launch import slot_trials
from fleet.observe.cluster import Cluster, Host
from placement import Experiment, Instance, Node, Plan
from placement.adapters.kv_cache import CHECKPOINTS
from placement.model import gb, units

GB = 2**30
PYTHON = ("/usr/bin/python3", "-m")
FIRST_LOCAL_PORT = 9101  # of the ways out of an instance's private network
OTHER_NODES = 3  # that a receipt tries to reach
# What a slot takes beside the keys and values of its context (24,4 kB of 23,0 a token with SmolLM2-135M): measured.
SLOT_MARGIN, SLOT_TOKEN_BYTES, SLOT_BASE_BYTES = 1.1, 64, 4 * 2**20
DEFAULT_COMMAND = (*PYTHON, "workload")


@dataclass(frozen=True)
class Entry(Record):
    """An instance as an in-memory host of Ansible: its host name, how to start it, and how to find it again."""

    name: str
    launch_spec: LaunchSpec
    instance_ref: InstanceRef


@dataclass(frozen=True)
class Origin:
    """The epoch of an instance, and what it is resumed from; None: it lives on in it. moved: as planned."""

    epoch: int
    checkpoint: Checkpoint | None = None
    moved: bool = False


# The program of a stream relay, by whether the release contains `contract/`: replays may use releases of older names.
RELAY_PROGRAMS = {True: (*PYTHON, "workload.stream_relay"), False: (*PYTHON, "workload.tap")}


def entries(
    run_id: str,
    request: Request,
    experiment: Experiment,
    plan: Plan,
    cluster: Cluster,
    origins: Mapping[str, Origin] | None = None,
    *,
    leased: bool = False,
) -> list[Entry]:
    """Return one entry per instance, in file order.

    experiment: with its sizes. origins: of a run that is resumed. leased: it acts only while it has leases.
    """
    nodes = {node.name: node for node in cluster.nodes}
    few = list(nodes)[: OTHER_NODES + 1]  # whose addresses a receipt may need beside those of the run
    hosts = {name: cluster.host(name) for name in dict.fromkeys([*plan.assignments.values(), *few])}
    launch = _Launch(
        run_id,
        request,
        experiment,
        plan,
        hosts,
        nodes,
        cluster.settings.auto_restart,
        Peers(experiment),
        origins or {},
        leased,
    )
    return [_entry(launch, instance) for instance in experiment.instances]


def launched_as(spec: LaunchSpec) -> dict[str, Any]:
    """Return what in a launch spec decides how the instance runs, independent of the run's id and folders on the node.

    A manifest records it, and a replay takes arguments and CPU from it and compares the rest: so its form must stay
    that of older records.
    """
    arguments: dict[str, str] = {}
    for word in spec.llama_server.command:
        word = word.replace(spec.dir, "<dir>").replace(spec.work_dir, "<work_dir>")
        name = word if re.match(r"--?[a-z]", word) else next(reversed(arguments))
        arguments[name] = "" if word == name else word
    return {
        "node": spec.description.node,
        "seed": spec.description.seed,
        "command": _quoted(spec.workload.command),
        "llama_args": arguments,
        "memory_bytes": spec.limits.memory_bytes,
        "cpu_quota_percent": spec.limits.cpu_percent,
        "restart": "on-failure" if spec.restart else "no",
    }


def server_args(model: str, port: int, context_size: int, threads: int, checkpoints: str) -> list[str]:
    """Return the arguments of every llama-server; `placement.adapters.gguf_memory` estimates the memory they imply."""
    return [
        "--model", model, "--host", "127.0.0.1", "--port", str(port), "--ctx-size", str(context_size),
        "--parallel", "1", "--cache-ram", "0", "--threads", str(threads), "--metrics", "--slot-save-path", checkpoints,
        "--ctx-checkpoints", str(CHECKPOINTS),
    ]  # fmt: skip


@dataclass(frozen=True)
class _Launch:
    """What all instances of one run share."""

    run_id: str
    request: Request
    experiment: Experiment
    plan: Plan
    hosts: Mapping[str, Host]
    nodes: Mapping[str, Node]
    restart: bool
    peers: Peers
    origins: Mapping[str, Origin]
    leased: bool

    def recorded(self, id: str) -> Mapping[str, Any]:
        """Return how an instance of the run that is repeated was started, as `launched_as` has it; else nothing."""
        return self.request.replay.instances.get(id, {}) if self.request.replay else {}

    def address(self, id: str) -> str:
        """Return the address of the node that an instance is on."""
        return self.hosts[self.plan.assignments[id]].address

    def addresses(self, node: str) -> tuple[str, ...]:
        """Return the address of a node, and those of a few others."""
        others = sorted({host.address for name, host in self.hosts.items() if name != node})
        return (self.hosts[node].address, *others[:OTHER_NODES])

    def url(self, id: str) -> str:
        """Return the URL of an instance's peer port on its node: its messages, or its stream relay."""
        return url(self.address(id), self.plan.ports[id]["peer"])


def url(address: str, port: int) -> str:
    """Return the URL of a port."""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _entry(launch: _Launch, instance: Instance) -> Entry:
    id, node = instance.id, launch.nodes[launch.plan.assignments[instance.id]]
    host = launch.hosts[node.name]
    observers = launch.peers.observers.get(id, [])
    relay = RELAY_PROGRAMS[launch.request.release.has_contract]
    release_dir = names.release_folder(host.work_dir, launch.request.release.hash)
    outbound = _outbound(launch, instance)
    restart, origin = launch.experiment.restart, launch.origins.get(id)
    description = _description(launch, instance, node, host, outbound)
    spec = LaunchSpec(
        description=description,
        work_dir=host.work_dir,
        release_dir=release_dir,
        owner=host.owner,
        workload=Process(
            tuple(launch.request.command or launch.experiment.command or DEFAULT_COMMAND),
            f"{release_dir}/code" if launch.request.release.has_code else release_dir,
            None if instance.network == "open" else ("localhost",),
        ),
        llama_server=_llama_server(launch, instance, description, host),
        limits=Limits(
            # As in the plan: on unified memory the GPU's part is included.
            memory_bytes=int(description.resources.takes_ram_gb * GB),
            cpu_percent=max(1, round(description.resources.cpu_cores * 100)),
        ),
        restart=launch.restart and restart.policy != "never",
        starts=restart.limit,
        within_seconds=restart.within_seconds,
        packages_dir=_packages_dir(launch, host),
        environment={**launch.experiment.environment, **instance.environment},
        private_network=instance.network != "open",
        inbound=_inbound(launch, instance),
        outbound=outbound,
        secrets=instance.secrets,
        out_of_reach=launch.addresses(node.name),
        capacity=Capacity(node.ram_gb - node.reserved_ram_gb, node.usable_gpu_memory_gb, node.max_instances),
        checkpoint=origin.checkpoint if origin else None,
        relay=Process(relay, release_dir, _relay_addresses(launch, id, observers)) if observers else None,
        # The node itself checks the relay, at the address that observers use.
        health={
            names.LLAMA: f"{description.llama_url}/health",
            **({names.RELAY: f"{launch.url(id)}/health"} if observers else {}),
        },
    )
    return Entry(names.host_name(id, node.name), spec, spec.ref)


def _description(
    launch: _Launch, instance: Instance, node: Node, host: Host, outbound: Sequence[Outbound]
) -> InstanceDescription:
    id, plan = instance.id, launch.plan
    local = {way.to: url("127.0.0.1", way.local_port) for way in outbound}
    uses_gpu = node.gpu and instance.gpu != "none"
    takes_ram, _ = node.takes(units(instance.ram_gb), units(instance.gpu_memory_gb), uses_gpu)
    folder = names.instance_folder(host.work_dir, launch.run_id, id)
    model = launch.request.models[id]
    sha256 = model.sha256
    origin = launch.origins.get(id, Origin(1))
    slot_bytes = _slot_bytes(launch, instance) if not slot_trials.problem(host.build_key, sha256) else 0
    return InstanceDescription(
        run_id=launch.run_id,
        id=id,
        dir=Path(folder),
        llama_url=f"http://127.0.0.1:{plan.ports[id]['llama']}",
        database=Path(folder) / names.DATABASE,
        experiment=launch.experiment.name,
        node=node.name,
        port=plan.ports[id]["peer"],
        ports=dict(plan.ports[id]),
        peers={other: local.get(other) or launch.url(other) for other in launch.peers.of(instance)},
        observes={subject: local.get(subject) or launch.url(subject) for subject in instance.observes},
        instances=launch.peers.known_to(id),
        workload=dict(launch.experiment.workload),
        config=dict(instance.config),
        epoch=origin.epoch,
        moved=origin.moved,
        leased=launch.leased,
        seed=instance.seed if instance.seed is not None else 1,
        context_size=instance.context_size,
        model={"path": names.model_files(host.work_dir, sha256, len(model.parts))[0], "sha256": sha256},
        release=launch.request.release.hash,
        results=launch.experiment.results,
        state=launch.experiment.state,
        slot_bytes=slot_bytes,
        resources=Resources(
            ram_gb=instance.ram_gb,
            takes_ram_gb=gb(takes_ram),
            gpu_memory_gb=instance.gpu_memory_gb,
            uses_gpu=uses_gpu,
            disk_gb=instance.disk_gb or 0.0,
            cpu_cores=_cpu_cores(launch, instance, node, host),
        ),
    )


def _cpu_cores(launch: _Launch, instance: Instance, node: Node, host: Host) -> float:
    """Return how many cores an instance may use: as recorded, else as it asks for, else its share of the node."""
    if recorded := launch.recorded(instance.id):
        return float(recorded["cpu_quota_percent"] / 100)
    cores = min(node.cpu_cores, host.cores or node.cpu_cores)
    return min(cores, instance.cpu_cores or cores / node.max_instances)


def _slot_bytes(launch: _Launch, instance: Instance) -> int:
    """Return how large its llama-server's slot may become; 0 where that is not known."""
    kv = launch.request.memory.get(instance.id, {}).get("parts_gb", {}).get("kv")
    if not kv:
        return 0
    return int(SLOT_MARGIN * kv * GB) + SLOT_TOKEN_BYTES * instance.context_size + SLOT_BASE_BYTES


def settings_of_slots(host: Host, *, uses_gpu: bool) -> tuple[str, ...]:
    """Return those arguments of a llama-server that decide the form of its slot, and may differ between nodes."""
    return host.gpu_arguments if uses_gpu else ()


def _packages_dir(launch: _Launch, host: Host) -> str:
    packages = launch.request.packages.get(host.name)
    return names.packages_folder(host.work_dir, packages.digest) if packages else ""


def _llama_server(launch: _Launch, instance: Instance, description: InstanceDescription, host: Host) -> Process:
    if recorded := launch.recorded(description.id):
        arguments = _recorded_arguments(recorded["llama_args"], description, host)
    else:
        arguments = server_args(
            description.model["path"],
            description.ports["llama"],
            description.context_size,
            max(1, math.floor(description.resources.cpu_cores)),
            f"{description.dir}/{names.CHECKPOINTS}",
        )
        arguments += [*_llama_settings(instance), *settings_of_slots(host, uses_gpu=description.resources.uses_gpu)]
    return Process(tuple(arguments), str(description.dir), ("localhost",))


def _llama_settings(instance: Instance) -> Iterator[str]:
    for name, value in instance.llama.items():
        yield from (f"--{name.replace('_', '-')}", {True: "on", False: "off"}.get(value, str(value)))


def _recorded_arguments(recorded: Mapping[str, str], description: InstanceDescription, host: Host) -> list[str]:
    """Return the arguments that `launched_as` has recorded, with the folders of this run."""
    arguments = []
    for name, value in recorded.items():
        arguments += [name, value] if value else [name]
    return [word.replace("<work_dir>", host.work_dir).replace("<dir>", str(description.dir)) for word in arguments]


def _inbound(launch: _Launch, instance: Instance) -> Inbound | None:
    """Return the way into an instance's network: for the peers that may call it, from their nodes."""
    isolated = {other.id for other in launch.experiment.instances if other.network == "isolated"}
    callers = [launch.address(peer) for peer in launch.peers.of(instance) if peer not in isolated]
    if instance.network == "open" or not callers:
        return None
    return Inbound(launch.plan.ports[instance.id]["peer"], tuple(sorted(set(callers))))


def _outbound(launch: _Launch, instance: Instance) -> tuple[Outbound, ...]:
    """Return the ways out of an instance's network: one to each peer, and to the stream relay of each subject."""
    if instance.network == "open":
        return ()
    ports = launch.plan.ports
    own = set(ports[instance.id].values())
    local = (port for port in itertools.count(FIRST_LOCAL_PORT) if port not in own)
    return tuple(
        Outbound(other, next(local), launch.address(other), ports[other]["peer"])
        for other in (*launch.peers.of(instance), *instance.observes)
    )


def _relay_addresses(launch: _Launch, id: str, observers: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({launch.address(id), *(launch.address(observer) for observer in observers)}))


def _quoted(words: Sequence[str]) -> str:
    """Return a command in systemd's ExecStart= form, as records from before launch specs have it."""
    escaped = (
        word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$").replace("\n", "\\n")
        for word in words
    )
    return " ".join(f'"{word}"' for word in escaped)
