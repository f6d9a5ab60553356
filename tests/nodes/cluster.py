"""The nodes: what they are, bringing them up and down, and faults made from outside them."""

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import yaml

from tests.nodes import image
from tests.nodes.machine import CGROUP_PARENT, Machine, NodesError, run, wait_until

INVENTORY = Path("inventory/virtual/hosts.yml")
NETWORK = "jarfleet"
SUBNET = IPv4Network("10.77.0.0/24")
BRIDGE = SUBNET[1]
GATEWAY = SUBNET[254]  # nobody has it: a default route for the facts, but nothing leaves the bridge
FIRST_FREE = 20  # last octet of the first address for nodes that are in no inventory
BOOT_SECONDS = 120  # 50 nodes on 2 cores take 40
FREEZE_TRIES = 5

# Everything systemd needs, but nothing that reaches the host's clock, modules or devices. Never --privileged: it
# writes to the host's own control groups and sysctls.
CONTAINMENT = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_TIME,SYS_MODULE,SYS_RAWIO,MAC_ADMIN"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--security-opt", "label=disable", "--cgroupns", "private", "--cgroup-parent", f"/{CGROUP_PARENT}"),
    *("--systemd=false", "--pids-limit", "4096"),
    *("--tmpfs", "/run:rw,nosuid,nodev,mode=755", "--tmpfs", "/tmp:rw,nosuid,nodev,mode=1777"),  # noqa: S108 - the nodes' /tmp
    *("--restart", "always"),  # a reboot from inside ends the container
)


@dataclass(frozen=True)
class Node:
    """A test node: its address on the nodes' network, its memory limit in MiB (None: the machine's), and its state."""

    name: str
    address: str
    memory_mb: int | None = None
    state: str = "absent"  # or podman's: running, exited, paused

    @property
    def mac(self) -> str:
        """Fixed by the address: with another one after a restart, stale ARP entries hang SSH."""
        return "02:6a:61:72:{:02x}:{:02x}".format(*IPv4Address(self.address).packed[2:])


def read_inventory(path: Path) -> list[Node]:
    """The hosts of a YAML inventory, with their `ansible_host` and `test_node_memory_mb` (MiB)."""
    try:
        groups = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise NodesError(f"cannot read the inventory {path} (--inventory names another): {error}") from error
    variables: dict[str, dict[str, Any]] = {}

    def collect(group: dict[str, Any] | None) -> None:
        for name, values in ((group or {}).get("hosts") or {}).items():
            variables.setdefault(name, {}).update(values or {})
        for child in ((group or {}).get("children") or {}).values():
            collect(child)

    for group in (groups or {}).values():
        collect(group)
    nodes = []
    for name, values in variables.items():
        try:
            address = IPv4Address(values.get("ansible_host"))
        except AddressValueError as error:
            raise NodesError(f"{path}: {name} needs an ansible_host that is an address in {SUBNET}") from error
        nodes.append(Node(name, str(address), values.get("test_node_memory_mb")))
    return nodes


class Cluster:
    """The test nodes of this machine. Names are looked up among the nodes that exist; NodesError if there is none."""

    def __init__(self, state: Path | None = None) -> None:
        cache = os.environ.get("JARFLEET_CACHE") or Path.home() / ".cache/jarfleet"
        self.machine = Machine((state or Path(cache) / "nodes").resolve())
        self.ssh_dir = self.machine.state / "ssh"
        self.key = self.ssh_dir / "id_ed25519"
        self.known_hosts = self.ssh_dir / "known_hosts"
        self._faults_file = self.machine.run_dir / "faults.json"

    # --- what there is

    def nodes(self) -> dict[str, Node]:
        """The nodes that exist, running or not, by name."""
        self.machine.require()
        nodes = {}
        for container in self.machine.containers():
            name, labels = container["Names"][0], container["Labels"]
            memory = int(labels["jarfleet.memory"]) or None
            nodes[name] = Node(name, labels["jarfleet.address"], memory, container["State"])
        return nodes

    def node(self, name: str) -> Node:
        """The node of this name."""
        nodes = self.nodes()
        if name not in nodes:
            raise NodesError(f"there is no node {name}; there are: {', '.join(nodes) or 'none'} (up makes them)")
        return nodes[name]

    def is_up(self, name: str) -> bool:
        """Whether there is a running node of this name."""
        node = self.nodes().get(name)
        return node is not None and node.state == "running"

    # --- up and down

    def up(self, nodes: Sequence[Node] | None = None) -> None:
        """Bring these nodes (default: the virtual inventory's) to a booted systemd and an answering sshd."""
        nodes = read_inventory(INVENTORY) if nodes is None else nodes
        with self.machine.lock():
            self._switch_on(nodes)
        self.wait_ready(nodes)

    def up_adhoc(self, memory_mb: dict[str, int | None], inventory: Sequence[Node] = ()) -> list[Node]:
        """Bring up nodes that are in no inventory: name -> memory limit in MiB. One that exists keeps its address."""
        with self.machine.lock():
            existing = self.nodes()
            taken = {IPv4Address(node.address) for node in [*existing.values(), *inventory]}
            free = (address for address in list(SUBNET.hosts())[FIRST_FREE - 1 : -1] if address not in taken)
            nodes = []
            for name, limit in memory_mb.items():
                address = existing[name].address if name in existing else next(free, None)
                if address is None:
                    raise NodesError(f"no address is left in {SUBNET}: take some nodes down")
                nodes.append(Node(name, str(address), limit))
            self._switch_on(nodes)
        self.wait_ready(nodes)
        return nodes

    def _switch_on(self, nodes: Sequence[Node]) -> None:
        existing = self.nodes()
        _refuse_clashes(nodes, existing)
        together = existing | {node.name: node for node in nodes}
        self.machine.set_sysctls(len(together))
        if self.machine.start_lxcfs():
            # Nodes that outlived their lxcfs have a broken /proc/meminfo.
            _parallel(self._podman_on("restart", "--time", "0"), _in_state("running", existing.values()))
        wanted = [existing[node.name] for node in nodes if node.name in existing]
        missing = [node for node in nodes if node.name not in existing]
        if missing:
            self._create(missing, together.values())
        _parallel(self._podman_on("unpause"), _in_state("paused", wanted))
        _parallel(self._podman_on("start"), [node for node in wanted if node.state not in ("running", "paused")])

    def _create(self, nodes: Sequence[Node], neighbours: Iterable[Node]) -> None:
        """Image, network, keys, containers: whatever is not there yet."""
        name = image.ensure(self.machine)
        if NETWORK not in self.machine.podman("network", "ls", "--format", "{{.Name}}").split():
            subnet = ("--subnet", str(SUBNET), "--gateway", str(BRIDGE))
            self.machine.podman("network", "create", "--internal", "--disable-dns", *subnet, NETWORK)
        self._ensure_keys(nodes)
        hosts = [argument for node in neighbours for argument in ("--add-host", f"{node.name}:{node.address}")]

        def create(node: Node) -> None:
            run_dir, host_key = self.machine.run_dir, self._host_key(node.name)
            limit = f"{node.memory_mb}m"
            mounts = {
                f"{self.key}.pub": "/etc/jar/authorized_keys",
                str(host_key): "/etc/ssh/ssh_host_ed25519_key",
                f"{host_key}.pub": "/etc/ssh/ssh_host_ed25519_key.pub",
                f"{self.machine.lxcfs_dir}/proc/meminfo": "/proc/meminfo",
            }
            self.machine.podman(
                *("run", "--detach", "--name", node.name, "--hostname", node.name, *CONTAINMENT, *hosts),
                *("--network", f"{NETWORK}:ip={node.address},mac={node.mac}", "--dns", "none"),
                *("--env", f"JAR_GATEWAY={GATEWAY}", "--pidfile", str(run_dir / f"{node.name}.pid")),
                *("--label", f"jarfleet.address={node.address}", "--label", f"jarfleet.memory={node.memory_mb or 0}"),
                *(("--memory", limit, "--memory-swap", limit) if node.memory_mb else ()),
                *(argument for source, target in mounts.items() for argument in ("-v", f"{source}:{target}:ro")),
                name,
            )

        _parallel(create, nodes)

    def _host_key(self, name: str) -> Path:
        return self.ssh_dir / f"hostkey.{name}"

    def _ensure_keys(self, nodes: Sequence[Node]) -> None:
        """Make the user's and the nodes' keys once, and list the nodes in known_hosts; an address has one owner."""
        for path, comment in [(self.key, "jar"), *((self._host_key(node.name), node.name) for node in nodes)]:
            if not path.exists():
                run("ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-C", comment, "-f", str(path))
        lines = self.known_hosts.read_text().splitlines() if self.known_hosts.exists() else []
        known = {line.split()[0]: line for line in lines}
        for node in nodes:
            key = Path(f"{self._host_key(node.name)}.pub").read_text().split()
            known[node.address] = f"{node.address} {key[0]} {key[1]} {node.name}"
        draft = self.known_hosts.with_suffix(".new")
        draft.write_text("\n".join(known.values()) + "\n")
        draft.replace(self.known_hosts)

    def down(self, *names: str) -> None:
        """Remove these nodes (default: all); with the last one goes everything else that `up` changed here."""
        with self.machine.lock():
            existing = self.nodes()
            doomed = [node for name, node in existing.items() if not names or name in names]
            self._change_faults(lambda faults: _without(faults, [node.name for node in doomed]))
            _parallel(self._podman_on("unpause"), _in_state("paused", doomed))  # a frozen process cannot be killed
            _parallel(self._podman_on("rm", "--force", "--time", "0"), doomed)
            self.machine.remove_cgroups()
            if len(doomed) == len(existing):
                self.machine.podman("network", "rm", "--force", NETWORK)
                self.machine.give_back()

    def _podman_on(self, *command: str) -> Callable[[Node], object]:
        return lambda node: self.machine.podman(*command, node.name)

    def wait_ready(self, nodes: Iterable[Node]) -> None:
        """Wait until systemd has booted and sshd answers on each of the nodes."""

        def wait(node: Node) -> None:
            if not wait_until(lambda: self._booted(node) and answers(node.address), BOOT_SECONDS):
                journal = self.exec(node.name, "journalctl", "-b", "-p", "warning", "-n", "20", "--no-pager")
                raise NodesError(
                    f"{node.name} has no booted systemd with sshd after {BOOT_SECONDS} s (cut off? then heal it); "
                    f"its journal: {journal.stdout or journal.stderr}"
                )

        _parallel(wait, nodes)

    def _booted(self, node: Node) -> bool:
        """Asks inside the node's namespaces: a podman exec for every poll would load the machine."""
        pid_file = self.machine.run_dir / f"{node.name}.pid"
        if not pid_file.exists():
            return False
        command = ["nsenter", "--all", "--target", pid_file.read_text().strip(), "systemctl", "is-system-running"]
        state = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        return state in ("running", "degraded")

    # --- faults, from outside the node and without its help

    def power_cut(self, *names: str) -> None:
        """Kill everything in the nodes at once; their disks stay."""
        self._each(names, "kill", "--signal", "KILL")

    def start(self, *names: str) -> None:
        """Switch the nodes on after a power cut and wait until they are ready."""
        self.up([self.node(name) for name in names])

    def reboot(self, *names: str) -> None:
        """An orderly shutdown and start; waits until the nodes are ready."""
        self._each(names, "restart", "--time", "20")
        self.wait_ready(self.node(name) for name in names)

    def freeze(self, *names: str) -> None:
        """Hang the nodes: no process runs, connections stay open."""
        for left in reversed(range(FREEZE_TRIES)):
            try:
                self._each(names, "pause")
            except NodesError as error:  # the kernel gives up where processes come and go just then
                if "unable to freeze" not in str(error) or not left:
                    raise
            else:
                return

    def thaw(self, *names: str) -> None:
        """End a freeze."""
        self._each(names, "unpause")

    def cut(self, name: str) -> None:
        """Cut the node off from everybody, the controller included, until healed."""
        self._change_faults(lambda faults: [*faults, [name]])

    def partition(self, one: str, other: str) -> None:
        """Cut two nodes off from each other, both ways, until healed; everybody else still reaches both."""
        self._change_faults(lambda faults: [*faults, [one, other]])

    def heal(self, *names: str) -> None:
        """Undo every cut and partition of these nodes (default: of all)."""
        self._change_faults(lambda faults: _without(faults, names) if names else [])

    def _each(self, names: Sequence[str], *command: str) -> None:
        _parallel(self._podman_on(*command), [self.node(name) for name in names])

    def _change_faults(self, change: Callable[[list[list[str]]], list[list[str]]]) -> None:
        """Drop frames on the bridge: out of the nodes' reach, and unlike rules in a node it survives its reboot."""
        before = json.loads(self._faults_file.read_text()) if self._faults_file.exists() else []
        faults = change(before)
        macs = {name: self.node(name).mac for fault in faults for name in fault}
        rules = []
        for fault in faults:
            one, other = macs[fault[0]], macs[fault[-1]]
            if one == other:
                rules += [f"ether saddr {one} drop", f"ether daddr {one} drop"]
            else:
                rules += [f"ether saddr {a} ether daddr {b} drop" for a, b in ((one, other), (other, one))]
        table = f"table bridge {NETWORK}\ndelete table bridge {NETWORK}\n"
        if rules:
            body = "; ".join(rules)
            hooks = ("forward", "input", "output")
            chains = (f"chain {hook} {{ type filter hook {hook} priority 0; {body}; }}" for hook in hooks)
            table += f"table bridge {NETWORK} {{\n" + "\n".join(chains) + "\n}\n"
        if before or rules:
            run("nft", "-f", "-", stdin=table)
            self._faults_file.write_text(json.dumps(faults))

    # --- reaching a node

    def exec(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as root in the node, under its memory limit, without its network; failing is an answer."""
        return subprocess.run(
            ["podman", "exec", name, *command],
            env=self.machine.env, cwd=self.machine.run_dir, capture_output=True, text=True,
        )  # fmt: skip

    def ssh(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the node as the user `jar`, over SSH as Ansible does."""
        options = [f"UserKnownHostsFile={self.known_hosts}", "IdentitiesOnly=yes", "BatchMode=yes", "ConnectTimeout=3"]
        arguments = [argument for option in options for argument in ("-o", option)]
        target = f"jar@{self.node(name).address}"
        return subprocess.run(
            ["ssh", "-i", str(self.key), *arguments, target, "--", *command], capture_output=True, text=True
        )

    def inventory(self, names: Sequence[str]) -> str:
        """An Ansible inventory (YAML) of these nodes, in the group `nodes`."""
        options = f"-o UserKnownHostsFile={self.known_hosts} -o IdentitiesOnly=yes"
        variables = {
            "ansible_user": "jar",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": options,
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        hosts = {name: {"ansible_host": self.node(name).address} for name in names}
        return yaml.safe_dump({"nodes": {"hosts": hosts, "vars": variables}}, sort_keys=False)


def answers(address: str, seconds: float = 1) -> bool:
    """Whether an SSH server greets at the address, seen from here."""
    try:
        with socket.create_connection((address, 22), timeout=seconds) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _without(faults: list[list[str]], names: Sequence[str]) -> list[list[str]]:
    return [fault for fault in faults if not set(fault) & set(names)]


def _in_state(state: str, nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if node.state == state]


def _refuse_clashes(nodes: Sequence[Node], existing: dict[str, Node]) -> None:
    """Refuse addresses outside the network or used twice, and a node that exists with other properties."""
    owners = {node.address: node.name for node in existing.values()}
    for node in nodes:
        if IPv4Address(node.address) not in list(SUBNET.hosts())[1:-1]:
            raise NodesError(f"{node.name}: {node.address} is not a node's address ({SUBNET} without .1 and .254)")
        if (owner := owners.setdefault(node.address, node.name)) != node.name:
            raise NodesError(f"{node.name} and {owner} both want {node.address}: change one, or take {owner} down")
        old = existing.get(node.name)
        if old and (old.address, old.memory_mb) != (node.address, node.memory_mb):
            raise NodesError(
                f"{node.name} exists with {old.address} and {old.memory_mb or 'no limit of'} MiB: "
                f"take it down first (down {node.name})"
            )


def _parallel(action: Callable[[Node], object], nodes: Iterable[Node]) -> None:
    """Do it to all nodes at once; the first failure is raised when all have ended."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(action, nodes))
