"""What the test nodes need of this machine, and how it is given back: packages, podman, lxcfs, sysctl, cgroups."""

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

# Debian package -> the file or command that shows it is installed.
PACKAGES = {
    "podman": "podman",
    "runc": "runc",
    "netavark": "/usr/lib/podman/netavark",
    "iptables": "iptables",
    "nftables": "nft",
    "debootstrap": "debootstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "openssh-client": "ssh-keygen",
    "rsync": "rsync",
    "lxcfs": "lxcfs",
}
CGROUP_PARENT = "jarfleet-nodes"
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
NETNS_DIR = Path("/run/netns")
IPAM = Path("/run/containers/networks/ipam.db")  # netavark's; podman has no option for its place
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")

STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{state}/storage"
runroot = "{state}/run/storage"
"""
# runc: crun refuses hybrid cgroups. File locks: the default is a segment in /dev/shm shared with the system's podman.
CONTAINERS_CONF = """\
[containers]
base_hosts_file = "none"
default_ulimits = ["nofile={nofile}:{nofile}", "nproc=16384:16384"]
[network]
network_backend = "netavark"
network_config_dir = "{state}/networks"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{state}/run/libpod"
"""


class NodesError(Exception):
    """Something the user can act on; the message says what to do."""


def run(*command: str, stdin: str | None = None, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """The command's standard output; NodesError with what it wrote to standard error if it fails."""
    done = subprocess.run(command, input=stdin, env=env, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise NodesError(f"`{' '.join(command[:4])} ...` failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
    return done.stdout


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true within the time, polling every 50 ms."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return met


class Machine:
    """This machine, as the host of test nodes whose state is kept under one directory."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.run_dir = state / "run"  # what does not outlive a boot of the machine
        self.lxcfs_dir = self.run_dir / "lxcfs"
        self._original_sysctls = self.run_dir / "sysctls.json"
        self.env = os.environ | {
            "CONTAINERS_STORAGE_CONF": str(state / "storage.conf"),
            "CONTAINERS_CONF": str(state / "containers.conf"),
        }

    def require(self) -> None:
        """Refuse, before anything is touched, a machine that lacks something; write podman's configuration."""
        if os.geteuid():
            raise NodesError("the test nodes need root: they make network interfaces and control groups")
        missing = [name for name, proof in PACKAGES.items() if not (shutil.which(proof) or Path(proof).exists())]
        if missing:
            raise NodesError(f"packages are missing; run: apt-get install --no-install-recommends {' '.join(missing)}")
        self.state.mkdir(parents=True, exist_ok=True)
        self._forget_last_boot()
        for directory in ("networks", "ssh"):
            (self.state / directory).mkdir(exist_ok=True)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        nofile = 20000 if hard == resource.RLIM_INFINITY else min(hard, 20000)  # the runtime may only lower it
        (self.state / "storage.conf").write_text(STORAGE_CONF.format(state=self.state))
        (self.state / "containers.conf").write_text(CONTAINERS_CONF.format(state=self.state, nofile=nofile))

    def _forget_last_boot(self) -> None:
        """podman takes its nodes for running as long as this directory is there; on a disk it outlives a reboot."""
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
        mark = self.run_dir / "boot_id"
        if mark.exists() and mark.read_text() == boot_id:
            return
        shutil.rmtree(self.run_dir, ignore_errors=True)
        self.run_dir.mkdir()
        mark.write_text(boot_id)
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        if IPAM.exists() and IPAM.stat().st_mtime < booted:  # it says the nodes' addresses are taken
            IPAM.unlink()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One change at a time, whichever terminal it comes from."""
        self.require()
        with (self.state / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._end_orphans()
            yield

    def podman(self, *arguments: str) -> str:
        """podman with its whole state under ours; its output. It runs in run/: conmon drops files where it runs."""
        return run("podman", *arguments, env=self.env, cwd=self.run_dir)

    def containers(self) -> list[dict[str, Any]]:
        """podman's description of every container of ours."""
        found: list[dict[str, Any]] = json.loads(self.podman("ps", "--all", "--format", "json"))
        return found

    def _end_orphans(self) -> None:
        """Kill the containers whose conmon was killed, and record their exit, which nobody else will.

        Without conmon's exit file podman can neither stop nor start them. They are there when somebody has killed every
        process of ours but kept the disk, as between two jobs on a CI machine.
        """
        for container in self.containers():
            if container["State"] in ("running", "paused", "stopping") and not _has_conmon(container["Id"]):
                process = Path("/proc", str(container["Pid"]))
                if container["Id"] in _content(process / "cgroup"):
                    os.kill(container["Pid"], signal.SIGKILL)
                    wait_until(partial(_has_ended, process), 5)
                (self.run_dir / "libpod/exits" / container["Id"]).write_text("137")

    def set_sysctls(self, nodes: int) -> None:
        """Raise what so many nodes need; remember, for `give_back`, what it and netavark's ip_forward were before."""
        if not self._original_sysctls.exists():
            values = {str(path): path.read_text() for path in (INOTIFY_INSTANCES, IP_FORWARD)}
            self._original_sysctls.write_text(json.dumps(values))
        if int(INOTIFY_INSTANCES.read_text()) < nodes * 8 + 32:  # root's are shared by all nodes, about 5 each
            INOTIFY_INSTANCES.write_text(str(nodes * 16 + 128))

    def start_lxcfs(self) -> bool:
        """Serve a /proc/meminfo that shows a node its own limit and use; whether it had to be started."""
        if self._lxcfs_serves():
            return False
        if _is_mounted(self.lxcfs_dir):  # its process died
            run("umount", "--lazy", str(self.lxcfs_dir))
        self.lxcfs_dir.mkdir(exist_ok=True)
        log = self.run_dir / "lxcfs.log"
        command = ["setsid", "--fork", "lxcfs", f"--pidfile={self.run_dir}/lxcfs.pid", str(self.lxcfs_dir)]
        with log.open("w") as output:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", check=True)
        if not wait_until(self._lxcfs_serves, 10):
            raise NodesError(f"lxcfs did not start (does /dev/fuse exist?); it said: {log.read_text()[-500:]}")
        return True

    def _lxcfs_serves(self) -> bool:
        try:
            return bool((self.lxcfs_dir / "proc/meminfo").read_text())
        except OSError:
            return False

    def give_back(self) -> None:
        """Leave the machine as it was before the first node; only the image, the keys and known_hosts stay."""
        if _is_mounted(self.lxcfs_dir):
            pid = (self.run_dir / "lxcfs.pid").read_text().strip()
            run("umount", "--lazy", str(self.lxcfs_dir))
            wait_until(lambda: not Path("/proc", pid).exists(), 5)
        if self._original_sysctls.exists():
            for path, value in json.loads(self._original_sysctls.read_text()).items():
                Path(path).write_text(value)
        mounted = [self.state / "storage/overlay"]  # podman mounts it on itself, and so it does with this one:
        mounted += [NETNS_DIR] if NETNS_DIR.is_dir() and not any(NETNS_DIR.iterdir()) else []
        for directory in mounted:
            while _is_mounted(directory):
                run("umount", str(directory))
        shutil.rmtree(self.run_dir)

    def remove_cgroups(self) -> None:
        """Remove the control groups that removed nodes left behind (on cgroup v1 nobody else does)."""
        alive = {f"libpod-{container['Id']}" for container in self.containers()}
        for parent in [*Path("/sys/fs/cgroup").glob(f"*/{CGROUP_PARENT}"), Path("/sys/fs/cgroup", CGROUP_PARENT)]:
            for group in parent.glob("libpod-*"):
                if group.name not in alive:
                    _rmdir_tree(group)
            # conmon takes a moment to leave
            if not alive and parent.exists() and not wait_until(partial(_rmdir_tree, parent), 5):
                raise NodesError(f"processes are left in {parent} though no node is; end them, then run down again")


def _has_conmon(container_id: str) -> bool:
    commands = (_content(path).split("\0") for path in Path("/proc").glob("[0-9]*/cmdline"))
    return any(Path(command[0]).name == "conmon" and container_id in command for command in commands)


def _has_ended(process: Path) -> bool:
    return not _content(process / "cmdline")  # a zombie's is empty


def _content(path: Path) -> str:
    """The file's text; empty when its process is gone."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _is_mounted(directory: Path) -> bool:
    return f" {directory} " in Path("/proc/mounts").read_text()


def _rmdir_tree(directory: Path) -> bool:
    """Remove a tree of directories whose files cannot be removed, as in cgroupfs; whether it is gone."""
    for path, _, _ in os.walk(directory, topdown=False):
        with suppress(OSError):  # it still has a process
            Path(path).rmdir()
    return not directory.exists()
