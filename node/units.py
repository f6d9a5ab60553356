"""systemd's units of an instance, made from its launch spec: the one place that writes unit text and quotes values.

Every value that comes from outside is quoted for the directive that it stands in, or rejected.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Dict, List

from contract import leases, names, restarts
from contract.launch_spec import LaunchSpec, Process

from . import guard, private_network, sandbox
from .errors import NodeError
from .quoting import exec_line, hook_line, line, word

# Of the sandbox: in a namespace of users root's power to look into folders would end; and what is given anew.
NOT_FOR_ROOT = ("PrivateUsers", "CapabilityBoundingSet", "RestrictAddressFamilies")
SCRATCH_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - an instance's own
SCRATCH = "256M"  # of each
STOP_SECONDS = 15  # from SIGTERM to SIGKILL
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# Where /etc/resolv.conf may lead: an instance that may reach anybody looks names up. Files, and no resolver's socket.
RESOLVERS = (
    "/run/systemd/resolve/stub-resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/resolvconf/resolv.conf",
)
NODE_PROGRAM = ("/usr/bin/python3", "-I", names.NODE_PROGRAM)
# "+" leaves the temporary file systems of the sandbox in place: the hook enters the file system that PID 1 has.
HOOK = ("/usr/bin/nsenter", "--target", "1", "--mount", *NODE_PROGRAM)


def render(spec: LaunchSpec, llama_cpp: str, user: str) -> Dict[str, str]:
    """{unit file's name: its text}. Raises NodeError.

    llama_cpp: the folder of the build of llama.cpp on this node. user: the user that the instance has here.
    """
    if not names.RUN_ID.fullmatch(spec.run_id) or not names.INSTANCE_ID.fullmatch(spec.id):
        raise NodeError(f"{spec.run_id!r} and {spec.id!r} are not a run id and an instance id")
    if not names.USER.fullmatch(user):
        raise NodeError(f"{user!r}: not the name of a user")
    found = {
        names.slice_name(spec.run_id, spec.id): _slice(spec),
        names.unit_name(spec.run_id, spec.id, names.LLAMA): _llama(spec, llama_cpp, user),
        names.unit_name(spec.run_id, spec.id, names.PROBE): _probe(spec, user),
        names.unit_name(spec.run_id, spec.id, names.GUARD): _guard(spec),
        names.unit_name(spec.run_id, spec.id, names.WORKLOAD): _workload(spec, user),
    }
    return {**found, **render_ways(spec, user)}


def render_ways(spec: LaunchSpec, user: str) -> Dict[str, str]:
    """Those of them that name addresses: the instance's private network, and its stream relay. Raises NodeError."""
    relay = {names.unit_name(spec.run_id, spec.id, names.RELAY): _relay(spec, spec.relay)} if spec.relay else {}
    return {**relay, **private_network.render(spec)}


def _slice(spec: LaunchSpec) -> str:
    return f"""\
# {spec.id} of {spec.run_id}: everything it runs, within what it asked for.
[Unit]
Description=Jarfleet {spec.run_id} {spec.id}

[Slice]
MemoryMax={spec.limits.memory_bytes}
MemorySwapMax=0
CPUQuota={spec.limits.cpu_percent}%
TasksMax={spec.limits.tasks}
"""


def _llama(spec: LaunchSpec, llama_cpp: str, user: str) -> str:
    """llama-server lives as long as the workload needs it, and no longer."""
    unit = [
        "StopWhenUnneeded=yes",
        f"ConditionPathExists=!{line(f'{spec.dir}/{names.OUTCOME}')}",
        "# A shutdown keeps the bus until both exits are written down.",
        "After=dbus.service",
        *private_network.joined(spec),
    ]
    command = [f"{llama_cpp}/bin/llama-server", *spec.llama_server.command]
    process = Process(tuple(command), spec.llama_server.working_dir, spec.llama_server.allowed_addresses)
    service = [*_hooks(spec, names.LLAMA), *_slot(spec), *_own(spec, user, spec.description.slot_bytes)]
    return _service(spec, names.LLAMA, process, unit, service)


def _workload(spec: LaunchSpec, user: str) -> str:
    llama = names.unit_name(spec.run_id, spec.id, names.LLAMA)
    needs = " ".join([llama, *private_network.sockets(spec)])
    probe = names.unit_name(spec.run_id, spec.id, names.PROBE)
    unit = [
        "# What has ended stays ended, also when the node starts again.",
        f"ConditionPathExists=!{line(f'{spec.dir}/{names.OUTCOME}')}",
        "# Its code does not run where its isolation does not hold.",
        f"Requires={probe}",
        f"Wants={needs} network-online.target",
        f"After={probe} {needs} network-online.target dbus.service",
        *private_network.joined(spec),
    ]
    service = [
        *_hooks(spec, names.WORKLOAD),
        *_own(spec, user),
        *(_credentials(spec, names.WORKLOAD) if spec.needs_credentials else []),
    ]
    return _service(spec, names.WORKLOAD, _with_environment(spec), unit, service, "multi-user.target")


def _with_environment(spec: LaunchSpec) -> Process:
    """The workload with its variables: given to it alone, since what root runs in its unit has the unit's own."""
    if not spec.environment:
        return spec.workload
    wrong = [name for name in spec.environment if not VARIABLE.fullmatch(name)]
    if wrong:
        raise NodeError(f"environment: {wrong[0]!r} is not a variable's name")
    variables = [f"{name}={value}" for name, value in spec.environment.items()]
    return replace(spec.workload, command=("/usr/bin/env", *variables, *spec.workload.command))


def _probe(spec: LaunchSpec, user: str) -> str:
    """Tries, once, what the workload could do: like its unit in everything but what it runs and where it reports."""
    receipt = names.receipt_file(spec.run_id, spec.id)
    needs = " ".join([names.unit_name(spec.run_id, spec.id, names.LLAMA), *private_network.sockets(spec)])
    unit = [
        f"ConditionPathExists=!{line(receipt)}",
        "# Nothing is asked of a llama-server that could not restore its slot.",
        f"AssertPathExists=!{names.spoiled_file(spec.run_id, spec.id)}",
        f"Wants={needs}",
        f"After={needs}",
        *private_network.joined(spec),
    ]
    service = [
        "Type=oneshot",
        "RemainAfterExit=yes",
        f"StandardInput=file:{names.attempts_file(spec.run_id, spec.id)}",
        f"StandardOutput=file:{receipt}",
        *_own(spec, user),
    ]
    process = Process((*NODE_PROGRAM, "attempt"), spec.workload.working_dir, spec.workload.allowed_addresses)
    return _service(spec, names.PROBE, process, unit, service)


def _guard(spec: LaunchSpec) -> str:
    """Root's, outside of the instance's slice: it must not want for what the instance uses up.

    Of root's powers it has one, to look into the folder; it may write there, and ask systemd to stop the instance.
    """
    lines = [
        "[Unit]",
        f"Description=Jarfleet {spec.run_id} {spec.id} {names.GUARD}",
        f"ConditionPathExists=!{line(f'{spec.dir}/{names.OUTCOME}')}",
        "",
        "[Service]",
        f"ExecStart={exec_line([*NODE_PROGRAM, 'guard', spec.dir, str(spec.capacity.max_instances)])}",
        f"Slice={names.run_slice_name(spec.run_id)}",
        "Restart=on-failure",
        "RestartSec=1",
        "MemoryMax=64M",
        "MemorySwapMax=0",
        "TasksMax=16",
        *(one for one in sandbox.directives() if one.partition("=")[0] not in NOT_FOR_ROOT),
        "CapabilityBoundingSet=CAP_DAC_READ_SEARCH",
        "RestrictAddressFamilies=AF_UNIX",
        "IPAddressDeny=any",
        "PrivateNetwork=yes",
        "PrivateTmp=yes",
        f"BindPaths={word(spec.dir)}",
        f"ReadWritePaths={word(spec.dir)}",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _relay(spec: LaunchSpec, process: Process) -> str:
    """Beside the instance's slice, with memory and a user of its own that reads the folder and writes nothing."""
    unit = [
        "Wants=network-online.target",
        "# When the node starts, the workload's new process has begun before somebody asks whether it has.",
        f"After=network-online.target {names.unit_name(spec.run_id, spec.id, names.WORKLOAD)}",
    ]
    service = [
        *_gate(spec),
        f"Slice={names.run_slice_name(spec.run_id)}",
        "DynamicUser=yes",
        f"BindReadOnlyPaths={word(spec.dir)}",
        *_credentials(spec, names.RELAY),
        "Restart=always",
        "MemoryMax=64M",
        "MemorySwapMax=0",
        "TasksMax=64",
    ]
    return _service(spec, names.RELAY, process, unit, service, "multi-user.target")


def _hooks(spec: LaunchSpec, unit: str) -> List[str]:
    return [
        *_gate(spec),
        "# Root's own records, made outside of the sandbox.",
        f"ExecStartPre=-+{hook_line([*HOOK, 'started', spec.dir, unit])}",
        f"ExecStopPost=+{hook_line([*HOOK, 'ended', spec.dir, unit])}",
        f"Restart={'on-failure' if spec.restart else 'no'}",
        "RestartPreventExitStatus=69 78",
    ]


def _slot(spec: LaunchSpec) -> List[str]:
    """What saves llama-server's slot before it ends, and has it take the one that it is resumed with."""
    lines = [f"ExecStop=-+{hook_line([*HOOK, 'stopping', spec.dir])}"] if spec.description.slot_bytes else []
    if spec.checkpoint and spec.checkpoint.slot:
        lines += [f"ExecStartPost=+{hook_line([*HOOK, 'restore', spec.dir])}", "TimeoutStartSec=infinity"]
    return lines


def _gate(spec: LaunchSpec) -> List[str]:
    if not spec.description.leased:
        return []
    return ["# Nothing of it starts without a lease.", f"ExecCondition=+{hook_line([*HOOK, 'lease', spec.dir])}"]


def _own(spec: LaunchSpec, user: str, more_bytes: int = 0) -> List[str]:
    """What all units of an instance share: its slice, its user, and its folder, the only one that they write.

    more_bytes: that a file of this unit may have beyond what the instance may.
    """
    lines = [
        f"Slice={names.slice_name(spec.run_id, spec.id)}",
        f"User={user}",
        f"BindPaths={word(spec.dir)}",
        f"ReadWritePaths={word(spec.dir)}",
        f"BindReadOnlyPaths={' '.join(map(word, names.parts_of(spec.description.model.get('path', spec.dir))))}",
        "OOMPolicy=continue",
        f"LimitFSIZE={(int(spec.description.resources.disk_gb * 2**30) or guard.DEFAULT_BYTES) + more_bytes}",
        "LogRateLimitIntervalSec=10s",
        "LogRateLimitBurst=2000",
    ]
    return [*lines, "PrivateNetwork=yes"] if spec.private_network else lines


def _credentials(spec: LaunchSpec, unit: str) -> List[str]:
    """The unit's credentials as its standard input: opened by systemd, so root alone can read the file."""
    return [f"StandardInput=file:{names.credentials_file(spec.run_id, spec.id, unit)}"]


def _service(
    spec: LaunchSpec, name: str, process: Process, unit: List[str], service: List[str], wanted_by: str = ""
) -> str:
    """The text of a service: one sandbox for all; `unit` and `service` are what this one has of its own."""
    path = ":".join(filter(None, (spec.release_dir, spec.packages_dir)))
    lines = [
        "[Unit]",
        f"Description=Jarfleet {spec.run_id} {spec.id} {name}",
        *unit,
        f"StartLimitIntervalSec={spec.within_seconds:g}",
        f"StartLimitBurst={spec.starts:d}",
        "",
        "[Service]",
        f"WorkingDirectory={line(process.working_dir)}",
        f"Environment={word(f'JARFLEET_INSTANCE={spec.dir}/{names.DESCRIPTION}')}",
        f"Environment={word(f'PYTHONPATH={path}')}",
        "Environment=PYTHONUNBUFFERED=1",
        "Environment=PYTHONDONTWRITEBYTECODE=1",
        f"ExecStart={exec_line(process.command)}",
        f"RestartSec={restarts.SECONDS}",
        f"TimeoutStopSec={leases.STOP_SECONDS if spec.description.leased else STOP_SECONDS}",
        "",
        *sandbox.directives(gpu=spec.description.resources.uses_gpu and name == names.LLAMA),
        *_sight(spec),
        *service,
        *([] if process.allowed_addresses is None else private_network.firewall(process.allowed_addresses)),
    ]
    if wanted_by:
        lines += ["", "[Install]", f"WantedBy={wanted_by}"]
    return "\n".join(lines) + "\n"


def _sight(spec: LaunchSpec) -> List[str]:
    own_slice = names.slice_name(spec.run_id, spec.id)
    group = f"jarfleet.slice/{names.run_slice_name(spec.run_id)}/{own_slice}"
    scratch = [f"{folder}:mode=1777,size={SCRATCH}" for folder in SCRATCH_FOLDERS]
    hidden = [word(spec.work_dir), "/run", "/var/log", "/etc/systemd/system", "/sys/fs/cgroup"]
    return [
        "# Scratch space in its own memory.",
        f"TemporaryFileSystem={' '.join(scratch)}",
        "# Of the work dir what it runs and its folder; no socket, log or unit; no control group but its slice's.",
        f"TemporaryFileSystem={' '.join(f'{folder}:ro' for folder in hidden)}",
        f"BindReadOnlyPaths={word(spec.release_dir)}",
        *([f"BindReadOnlyPaths={word(spec.packages_dir)}"] if spec.packages_dir else []),
        f"BindReadOnlyPaths=-/sys/fs/cgroup/{group} -/sys/fs/cgroup/memory/{group}",
        *([f"BindReadOnlyPaths={names.lease_folder(spec.run_id, spec.id)}"] if spec.description.leased else []),
        *(f"BindReadOnlyPaths=-{path}" for path in RESOLVERS if spec.workload.allowed_addresses is None),
    ]
