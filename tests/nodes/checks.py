"""What the nodes promise, verified on the four of the virtual inventory; a machine that enforces nothing fails.

Each check is named by its docstring. A refusal counts only for the right reason: where one is expected, the check
also does the same thing without it (a control), or looks at how it failed.
"""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from tests.nodes.cluster import Cluster, answers
from tests.nodes.machine import wait_until

NODES = ("jetson", "rpi1", "rpi2", "host")
A, B = "rpi1", "rpi2"
ALLOCATE = "import sys; block = bytearray(int(sys.argv[1]) << 20)"
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 22), timeout=1)"

Check = Callable[[Cluster], None]
CHECKS: dict[str, Check] = {}


def run_check(cluster: Cluster, name: str) -> None:
    """Run one check; AssertionError says what was seen. Whatever happens, the nodes are then up and healed."""
    try:
        CHECKS[name](cluster)
    finally:
        cluster.heal()
        cluster.start(*(node.name for node in cluster.nodes().values()))


def check(function: Check) -> Check:
    """Register a check under its docstring's sentence."""
    CHECKS[(function.__doc__ or "").strip().rstrip(".")] = function
    return function


def job(cluster: Cluster, *arguments: str) -> tuple[int, str]:
    """Run a transient service on node A; its exit status (a killed one: not 0) and what it and systemd say."""
    done = cluster.exec(A, "systemd-run", "--wait", "--pipe", *arguments)
    return done.returncode, done.stderr


def connect(cluster: Cluster, source: str, target: str) -> str:
    """The outcome of a TCP connection between two nodes: connected, or the name of the Python error."""
    done = cluster.exec(source, "python3", "-c", CONNECT, cluster.node(target).address)
    return "connected" if done.returncode == 0 else done.stderr.strip().splitlines()[-1].partition(":")[0]


@check
def systemd_boots(cluster: Cluster) -> None:
    """systemd has booted as PID 1 on every node."""
    for name in NODES:
        state = cluster.exec(name, "systemctl", "is-system-running").stdout.strip()
        assert state in ("running", "degraded"), f"{name}: {state or 'no answer'}"


@check
def ssh_and_sudo(cluster: Cluster) -> None:
    """SSH with a checked host key lets jar in, and sudo makes it root, on every node."""
    for name in NODES:
        done = cluster.ssh(name, "sudo", "-n", "id", "-u")
        assert done.stdout.strip() == "0", f"{name}: {done.stderr.strip() or done.stdout}"


@check
def memory_max_spares_a_small_job(cluster: Cluster) -> None:
    """MemoryMax lets a job below it live."""
    status, words = job(cluster, "-p", "MemoryMax=64M", "python3", "-c", ALLOCATE, "20")
    assert status == 0, words


@check
def memory_max_kills_a_big_job(cluster: Cluster) -> None:
    """MemoryMax kills a job above it."""
    status, words = job(cluster, "-p", "MemoryMax=64M", "python3", "-c", ALLOCATE, "200")
    assert status != 0, "it was left alive"
    assert re.search("oom-kill|signal|KILL", words), f"it died of something else: {words}"


@check
def node_memory_is_limited(cluster: Cluster) -> None:
    """A node's memory limit kills what exceeds it, in the middle of its work."""
    limit = cluster.node(A).memory_mb or 0
    assert cluster.exec(A, "python3", "-c", ALLOCATE, str(limit // 2)).returncode == 0, "half of it must fit"
    status = cluster.exec(A, "python3", "-c", ALLOCATE, str(limit * 3 // 2)).returncode
    assert status == 137, f"one and a half times the limit ended with status {status} instead of 137 (killed)"


@check
def meminfo_shows_the_node(cluster: Cluster) -> None:
    """A node's /proc/meminfo shows its own limit, and its free memory shrinks with use."""

    def meminfo() -> dict[str, int]:
        lines = cluster.exec(A, "cat", "/proc/meminfo").stdout.splitlines()
        return {name: int(value.split()[0]) // 1024 for name, _, value in (line.partition(":") for line in lines)}

    before = meminfo()
    assert before["MemTotal"] == cluster.node(A).memory_mb, f"MemTotal is {before['MemTotal']} MiB"
    hold = "import time; block = b'x' * (256 << 20); time.sleep(60)"  # written to, or it would take nothing
    cluster.exec(A, "systemd-run", "--unit", "ballast", "python3", "-c", hold)
    try:
        less = wait_until(lambda: 200 < before["MemAvailable"] - meminfo()["MemAvailable"] < 320, 10)
    finally:
        cluster.exec(A, "systemctl", "stop", "ballast")
    assert less, f"256 MiB in use did not take that much from MemAvailable ({before['MemAvailable']} MiB)"


@check
def ip_address_deny_is_enforced(cluster: Cluster) -> None:
    """IPAddressDeny keeps a unit off the network, and only that unit."""
    command = ("python3", "-c", CONNECT, cluster.node(B).address)
    status, words = job(cluster, *command)
    assert status == 0, f"without IPAddressDeny: {words}"
    status, words = job(cluster, "-p", "IPAddressDeny=any", *command)
    assert status != 0, "connected in spite of IPAddressDeny=any"
    assert re.search("PermissionError|TimeoutError", words), f"it failed for another reason: {words}"


@check
def nftables_works_in_a_node(cluster: Cluster) -> None:
    """nftables rules made in a node are enforced there."""
    assert (seen := connect(cluster, A, B)) == "connected", f"without a rule: {seen}"
    rule = f"ip daddr {cluster.node(B).address} tcp dport 22 reject"
    chain = "add table inet t; add chain inet t o { type filter hook output priority 0; }"
    cluster.exec(A, "nft", f"{chain}; add rule inet t o {rule}")
    seen = connect(cluster, A, B)
    cluster.exec(A, "nft", "delete", "table", "inet", "t")
    assert seen == "ConnectionRefusedError", seen


@check
def services_restart_on_failure(cluster: Cluster) -> None:
    """Restart=on-failure brings a killed service back."""

    def show(what: str) -> str:
        return cluster.exec(A, "systemctl", "show", "--property", what, "--value", "phoenix").stdout.strip()

    restart = ("-p", "Restart=on-failure", "-p", "RestartSec=100ms")
    cluster.exec(A, "systemd-run", "--unit", "phoenix", *restart, "sleep", "1000")
    try:
        first = show("MainPID")
        cluster.exec(A, "kill", "-9", first)
        assert wait_until(lambda: show("NRestarts") == "1" and show("MainPID") not in ("0", first), 10), "it is gone"
    finally:
        cluster.exec(A, "systemctl", "stop", "phoenix")


@check
def partitions_separate_two_nodes(cluster: Cluster) -> None:
    """A partition separates two nodes both ways, leaves everybody else, and heals."""
    cluster.partition(A, B)
    seen = (connect(cluster, A, B), connect(cluster, B, A))
    assert not {*seen} - {"TimeoutError", "OSError"}, f"{A} to {B}, {B} to {A}: {seen}"
    assert connect(cluster, A, "jetson") == "connected", f"{A} lost jetson as well"
    assert all(answers(cluster.node(name).address) for name in (A, B)), "the controller is locked out"
    cluster.heal(A)
    # an ARP request may be under way that the partition dropped; it is repeated after a second
    assert wait_until(lambda: connect(cluster, A, B) == "connected", 5), "still separated after healing"


@check
def cuts_isolate_a_node(cluster: Cluster) -> None:
    """A cut isolates a node from its peers and the controller, and heals."""
    address = cluster.node(A).address
    cluster.cut(A)
    assert not answers(address), "the controller still reaches it"
    seen = (connect(cluster, A, B), connect(cluster, B, A))
    assert not {*seen} - {"TimeoutError", "OSError"}, f"{A} to {B}, {B} to {A}: {seen}"
    assert connect(cluster, B, "jetson") == "connected", "the other nodes suffer as well"
    cluster.heal(A)
    assert answers(address), "still cut off from the controller after healing"
    assert connect(cluster, B, A) == "connected", f"still cut off from {B} after healing"


@check
def frozen_nodes_hang(cluster: Cluster) -> None:
    """A frozen node does not answer, and goes on when thawed."""
    address = cluster.node(A).address
    cluster.freeze(A)
    assert not answers(address), "it still answers"
    cluster.thaw(A)
    assert wait_until(lambda: answers(address), 5), "silent after the thaw"


@check
def nodes_survive_a_power_cut(cluster: Cluster) -> None:
    """A node cut from power is gone at once, and comes back with its disk and its host key."""
    address = cluster.node(A).address
    cluster.exec(A, "touch", "/var/lib/survivor")
    cluster.power_cut(A)
    assert not answers(address), "it still answers"
    cluster.start(A)
    done = cluster.ssh(A, "sudo", "rm", "/var/lib/survivor")
    assert done.returncode == 0, done.stderr


@check
def nodes_reboot_from_inside(cluster: Cluster) -> None:
    """A reboot asked for inside a node ends in a new boot of it."""

    def boot_id() -> str:
        return cluster.exec(A, "cat", "/proc/sys/kernel/random/boot_id").stdout

    before = boot_id()
    cluster.exec(A, "systemctl", "reboot")
    assert wait_until(lambda: boot_id() not in ("", before), 60), "the boot id stayed the same"


@check
def comes_back_after_a_killing(cluster: Cluster) -> None:
    """A node comes back with its disk after every process of it was killed, conmon and lxcfs too."""
    cluster.exec(A, "touch", "/root/kept")
    machine = cluster.machine
    conmon = Path(machine.podman("inspect", "--format", "{{.ConmonPidFile}}", A).strip())
    for pid_file in (conmon, machine.run_dir / f"{A}.pid", machine.run_dir / "lxcfs.pid"):
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
    assert wait_until(lambda: not answers(cluster.node(A).address), 5), "it still answers"
    cluster.up()
    assert cluster.exec(A, "rm", "/root/kept").returncode == 0
    systemd_boots(cluster)
