"""The units that connect an instance's private network with its peers: systemd's own sockets and proxy, none of ours.

Inbound, a socket on the node's peer port leads to the instance's. Outbound, a socket on the loopback of the private
network leads to one port of one address. Everything else is unreachable: a network with only a loopback has no route.
"""

from __future__ import annotations

import ipaddress
from typing import Dict, Iterable, List

from contract import names
from contract.launch_spec import Inbound, LaunchSpec, Outbound

from . import sandbox
from .errors import NodeError

PROXY = "/usr/lib/systemd/systemd-socket-proxyd"
# A socket comes before all services by default, and these come after one: when the node boots systemd would break that
# circle by leaving out a job, llama-server's for one.
LATE_SOCKET = ("DefaultDependencies=no", "Conflicts=shutdown.target", "Before=shutdown.target")
LIMITS = ("MemoryMax=32M", "MemorySwapMax=0", "TasksMax=64")


def joined(spec: LaunchSpec) -> List[str]:
    """What puts a unit that has PrivateNetwork=yes into the instance's network."""
    return [f"JoinsNamespaceOf={names.unit_name(spec.run_id, spec.id, names.LLAMA)}"] if spec.private_network else []


def sockets(spec: LaunchSpec) -> List[str]:
    """The sockets that the workload needs."""
    ways = ([names.INBOUND] if spec.inbound else []) + [names.OUTBOUND + way.to for way in spec.outbound]
    return [names.socket_name(spec.run_id, spec.id, way) for way in ways]


def render(spec: LaunchSpec) -> Dict[str, str]:
    """{unit file's name: its text}. Raises NodeError."""
    found: Dict[str, str] = {}
    if spec.inbound:
        found.update(_inbound(spec, spec.inbound))
    for way in spec.outbound:
        found.update(_outbound(spec, way))
    return found


def firewall(addresses: Iterable[str]) -> List[str]:
    """The firewall of a unit: these addresses and no other. Raises NodeError."""
    checked = [address if address == "localhost" else _address(address) for address in addresses]
    return ["IPAddressDeny=any", f"IPAddressAllow={' '.join(checked)}"]


def _inbound(spec: LaunchSpec, way: Inbound) -> Dict[str, str]:
    socket = [f"ListenStream={way.port:d}", *firewall(way.callers)]
    service = [f"ExecStart={PROXY} 127.0.0.1:{way.port:d}", "PrivateNetwork=yes"]
    return _pair(spec, names.INBOUND, [_after_llama(spec)], socket, [*joined(spec), _after_llama(spec)], service)


def _outbound(spec: LaunchSpec, way: Outbound) -> Dict[str, str]:
    if not names.INSTANCE_ID.fullmatch(way.to):
        raise NodeError(f"{way.to!r} is not an instance id")
    address = _address(way.address)
    unit = [*joined(spec), _after_llama(spec)]
    # All that share namespaces must ask for the same ones.
    socket = [f"ListenStream=127.0.0.1:{way.local_port:d}", "PrivateNetwork=yes", "PrivateIPC=yes"]
    # The proxy takes what is before the last colon for the address: one of IPv6 goes without brackets.
    service = [f"ExecStart={PROXY} {address}:{way.port:d}", *firewall([address])]
    return _pair(spec, names.OUTBOUND + way.to, unit, socket, [], service)


def _after_llama(spec: LaunchSpec) -> str:
    """Who starts first gives its name to the network, and the others join llama-server's: also when the node boots."""
    return f"After={names.unit_name(spec.run_id, spec.id, names.LLAMA)}"


def _pair(
    spec: LaunchSpec, name: str, of_socket: List[str], socket: List[str], of_service: List[str], service: List[str]
) -> Dict[str, str]:
    socket_name = names.socket_name(spec.run_id, spec.id, name)
    description = f"Description=Jarfleet {spec.run_id} {spec.id} {name}"
    in_run = f"Slice={names.run_slice_name(spec.run_id)}"
    return {
        socket_name: _text(["[Unit]", description, *LATE_SOCKET, *of_socket, "", "[Socket]", *socket, in_run]),
        names.unit_name(spec.run_id, spec.id, name): _text(
            [
                "[Unit]",
                description,
                f"Requires={socket_name}",
                f"After={socket_name}",
                *of_service,
                "",
                "[Service]",
                *sandbox.directives(),
                "DynamicUser=yes",
                "PrivateTmp=yes",
                *service,
                *LIMITS,
                in_run,
            ]
        ),
    }


def _address(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError as error:
        raise NodeError(f"address {address!r}: neither an IP address nor localhost; correct node_address") from error


def _text(lines: List[str]) -> str:
    return "\n".join(lines) + "\n"
