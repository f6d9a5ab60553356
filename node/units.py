"""systemd's units of an instance, made from its launch spec: the one place that writes unit text and quotes values.

Every value that comes from outside is quoted for the directive that it stands in, or rejected.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Dict, List, Optional, Sequence

from contract import names
from contract.launch_spec import BESIDE_SUBJECT, OBSERVED, LaunchSpec, Process

from .errors import NodeError

USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\$?", re.ASCII)
PLAIN = re.compile(r"[A-Za-z0-9_@./+,=-]+", re.ASCII)  # needs no quotes in a list of words
CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# Every unit sees nobody's home, writes nothing but what is named for it, and gains no privilege.
SANDBOX = """\
ProtectHome=tmpfs
BindReadOnlyPaths={release}
ProtectSystem=strict
PrivateTmp=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictSUIDSGID=yes
LockPersonality=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes"""

# What an observed instance must not notice: one loopback for both its units and no other network. Of the node no unit,
# log or control group but its own, and no process of another user or user namespace, which its relay and an observer on
# the same node are.
OBSERVED_SANDBOX = """\
PrivateNetwork=yes
ProtectProc=invisible
ProtectControlGroups=no
TemporaryFileSystem=/run:ro /var/log:ro /etc/systemd/system:ro /sys/fs/cgroup:ro
BindReadOnlyPaths=-{group} -{group_v1}"""


def render(spec: LaunchSpec, llama_cpp: str) -> Dict[str, str]:
    """{unit file's name: its text}. llama_cpp: the folder of the build of llama.cpp on this node. Raises NodeError."""
    if not names.RUN_ID.fullmatch(spec.run_id) or not names.INSTANCE_ID.fullmatch(spec.id):
        raise NodeError(f"{spec.run_id!r} and {spec.id!r} are not a run id and an instance id")
    if not USER.fullmatch(spec.owner):
        raise NodeError(f"owner {spec.owner!r}: not the name of a user; correct ssh_user")
    found = {
        names.slice_name(spec.run_id, spec.id): _slice(spec),
        names.unit_name(spec.run_id, spec.id, names.LLAMA): _llama(spec, llama_cpp),
        names.unit_name(spec.run_id, spec.id, names.WORKLOAD): _workload(spec),
    }
    if spec.relay:
        found[names.unit_name(spec.run_id, spec.id, names.RELAY)] = _relay(spec, spec.relay)
    return found


def exec_line(words: Sequence[str]) -> str:
    """A command as ExecStart= wants it: each word quoted, `%` and `$` without their special meaning."""
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


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


def _llama(spec: LaunchSpec, llama_cpp: str) -> str:
    """llama-server lives as long as the workload needs it, and no longer."""
    unit = [
        "StopWhenUnneeded=yes",
        f"ConditionPathExists=!{_line(f'{spec.dir}/{names.OUTCOME}')}",
        "# A shutdown keeps the bus until both exits are written down.",
        "After=dbus.service",
        *_joined_network(spec),
    ]
    command = [f"{llama_cpp}/bin/llama-server", *spec.llama_server.command]
    process = Process(tuple(command), spec.llama_server.working_dir, spec.llama_server.allowed_addresses)
    return _service(spec, names.LLAMA, process, unit, _own(spec, names.LLAMA))


def _workload(spec: LaunchSpec) -> str:
    llama = names.unit_name(spec.run_id, spec.id, names.LLAMA)
    unit = [
        "# What has ended stays ended, also when the node starts again.",
        f"ConditionPathExists=!{_line(f'{spec.dir}/{names.OUTCOME}')}",
        f"Wants={llama} network-online.target",
        f"After={llama} network-online.target dbus.service",
        *_joined_network(spec),
    ]
    return _service(spec, names.WORKLOAD, spec.workload, unit, _own(spec, names.WORKLOAD), "multi-user.target")


def _relay(spec: LaunchSpec, process: Process) -> str:
    """Beside the instance's slice, with memory and a user of its own that reads the folder and writes nothing."""
    unit = [
        "Wants=network-online.target",
        "# When the node starts, the workload's new process has begun before somebody asks whether it has.",
        f"After=network-online.target {names.unit_name(spec.run_id, spec.id, names.WORKLOAD)}",
    ]
    service = [
        f"Slice={names.run_slice_name(spec.run_id)}",
        "DynamicUser=yes",
        f"BindReadOnlyPaths={_word(spec.dir)}",
        "Restart=always",
        "MemoryMax=64M",
        "MemorySwapMax=0",
        "TasksMax=64",
    ]
    return _service(spec, names.RELAY, process, unit, service, "multi-user.target")


def _own(spec: LaunchSpec, unit: str) -> List[str]:
    """What llama-server and workload share: the instance's slice, its user, and its folder, the only one they write."""
    lines = [
        f"ExecStartPre=-{_hook([*spec.hooks.start, unit])}",
        f"ExecStopPost={_hook([*spec.hooks.exit, unit])}",
        f"Slice={names.slice_name(spec.run_id, spec.id)}",
        f"User={spec.owner}",
        f"BindPaths={_word(spec.dir)}",
        f"ReadWritePaths={_word(spec.dir)}",
        f"BindReadOnlyPaths={_word(spec.description.model.get('path', spec.dir))}",
        f"Restart={'on-failure' if spec.restart else 'no'}",
        "RestartPreventExitStatus=69 78",
        "OOMPolicy=continue",
    ]
    if spec.isolation == OBSERVED:
        own_slice = names.slice_name(spec.run_id, spec.id)
        group = f"jarfleet.slice/{names.run_slice_name(spec.run_id)}/{own_slice}"
        lines += OBSERVED_SANDBOX.format(
            group=f"/sys/fs/cgroup/{group}", group_v1=f"/sys/fs/cgroup/memory/{group}"
        ).splitlines()
    if spec.isolation == BESIDE_SUBJECT:
        lines.append("PrivateUsers=yes")
    return lines


def _joined_network(spec: LaunchSpec) -> List[str]:
    """What puts both units of an observed instance into one network."""
    if spec.isolation != OBSERVED:
        return []
    return [f"JoinsNamespaceOf={names.unit_name(spec.run_id, spec.id, names.LLAMA)}"]


def _service(
    spec: LaunchSpec, name: str, process: Process, unit: List[str], service: List[str], wanted_by: str = ""
) -> str:
    """The text of a service: one sandbox for all; `unit` and `service` are what this one has of its own."""
    lines = [
        "[Unit]",
        f"Description=Jarfleet {spec.run_id} {spec.id} {name}",
        *unit,
        "StartLimitIntervalSec=60",
        "StartLimitBurst=10",
        "",
        "[Service]",
        f"WorkingDirectory={_line(process.working_dir)}",
        f"Environment={_word(f'JARFLEET_INSTANCE={spec.dir}/{names.DESCRIPTION}')}",
        f"Environment={_word(f'PYTHONPATH={spec.release_dir}')}",
        "Environment=PYTHONUNBUFFERED=1",
        "Environment=PYTHONDONTWRITEBYTECODE=1",
        f"ExecStart={exec_line(process.command)}",
        "RestartSec=1",
        "TimeoutStopSec=15",
        "",
        *SANDBOX.format(release=_word(spec.release_dir)).splitlines(),
        *service,
        *_addresses(process.allowed_addresses),
    ]
    if wanted_by:
        lines += ["", "[Install]", f"WantedBy={wanted_by}"]
    return "\n".join(lines) + "\n"


def _addresses(allowed: Optional[Sequence[str]]) -> List[str]:
    """The firewall of a unit: these addresses and no other; None: any."""
    if allowed is None:
        return []
    for address in allowed:
        try:
            if address != "localhost":
                ipaddress.ip_network(address, strict=False)
        except ValueError as error:
            raise NodeError(
                f"address {address!r}: neither an IP address nor localhost; correct node_address"
            ) from error
    return ["IPAddressDeny=any", f"IPAddressAllow={' '.join(allowed)}"]


def _hook(words: Sequence[str]) -> str:
    return " ".join(_word(word).replace("$", "$$") for word in words)


def _line(path: str) -> str:
    """A path that is all of a directive's value: spaces and quotes stand for themselves there."""
    return _checked(path).replace("%", "%%")


def _word(text: str) -> str:
    """One word in a directive's list of words; quoted where it needs it."""
    return _checked(text) if PLAIN.fullmatch(text) else _quoted(_checked(text))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{escaped}"'


def _checked(path: str) -> str:
    if CONTROL.search(path):
        raise NodeError(f"{path!r}: has a control character, which no unit can name; correct remote_work_dir")
    return path
