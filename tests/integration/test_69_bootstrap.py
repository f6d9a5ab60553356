"""A machine as it comes - an account with a password, no user, key, program or package of ours - becomes a node."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import ROOT, Played, Project, on
from tests.nodes import Cluster

NODE = "fresh"
AS_IT_COMES = """
id pi || { useradd -m -s /bin/bash pi && echo pi:raspberry | chpasswd; }
echo 'pi ALL=(ALL) ALL' > /etc/sudoers.d/pi
rm -f /etc/sudoers.d/jar
mkdir -p /boot/firmware && echo 'console=tty1 root=/dev/sda cgroup_disable=memory rootwait' > /boot/firmware/cmdline.txt
"""
NOT = "-not -path '/etc/ssh/ssh_host*' -not -name '*~' -not -path '/home/pi/*'"
LOOK = f"find /etc /opt /srv /home /var/lib/jarfleet /boot {NOT} -printf '%p %m %u %s\\n' 2>/dev/null | sort"
# What is not taken back: the memory controller, the users of instances, and what useradd leaves of its own.
ACCOUNTS = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/sub", "/etc/sysusers.d")
LEFT = ("/boot", "/etc/jarfleet ", *ACCOUNTS)


class Machine:
    """The machine, and the commands of somebody who knows its password."""

    def __init__(self, project: Project, cluster: Cluster, folder: Path) -> None:
        self.project, self.cluster, self.folder = project, cluster, folder
        (node,) = cluster.up_adhoc({NODE: 512})
        on(cluster, NODE, "sh", "-c", AS_IT_COMES)
        shown = on(cluster, NODE, "ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub")
        self.fingerprint = shown.split()[1]
        variables = {
            "ssh_user": "fleet",
            "ssh_key_path": str(folder / "deploy"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={folder}/known_hosts -o IdentitiesOnly=yes",
            "remote_work_dir": "/srv/jarfleet",
            "node_simulated": True,
            "llama_cpp_build": "x86_64",
            "llama_cpp_builder": "controller",
        }
        hosts = {NODE: {"ansible_host": node.address, "ram_gb": 4, "cpu_cores": 2}}
        model = {"default_model": {"path": "{{ jarfleet_cache }}/models/tiny.gguf"}}
        inventory = {"all": {"vars": model}, "nodes": {"vars": variables, "hosts": hosts}}
        (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
        secret = {"ansible_password": "raspberry", "ansible_become_password": "raspberry"}
        (folder / "secret.yml").write_text(yaml.safe_dump(secret))

    def play(self, playbook: str, *words: str, code: int | None = 0) -> Played:
        return self.project.play(playbook, "-i", str(self.folder / "hosts.yml"), *words, code=code)

    def bootstrap(self, verb: str, *words: str, code: int | None = 0) -> Played:
        given = ("-e", "bootstrap_user=pi", "-e", f"@{self.folder / 'secret.yml'}")
        return self.play(f"playbooks/{verb}.yml", *given, *words, code=code)

    def answering(self, answer: str) -> str:
        """What bootstrap.yml prints to a person at a terminal who gives that answer when asked."""
        words = ["playbooks/bootstrap.yml", "-i", str(self.folder / "hosts.yml"), "-e", "bootstrap_user=pi"]
        secret = ["-e", f"@{self.folder / 'secret.yml'}"]
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            os.execvpe("ansible-playbook", ["ansible-playbook", *words, *secret], self.project.environment)  # noqa: S606 - a terminal of its own
        printed, deadline = b"", time.monotonic() + 60
        with contextlib.suppress(OSError):  # how a terminal says that the other end has gone
            while time.monotonic() < deadline:
                if select.select([terminal], [], [], 0.5)[0]:
                    printed += os.read(terminal, 4096)
                elif b"Type yes" in printed:  # what is typed before it listens is thrown away
                    os.write(terminal, answer.encode() + b"\n")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return printed.decode(errors="replace")

    def files(self) -> str:
        return on(self.cluster, NODE, "sh", "-c", LOOK)

    def ssh(self, user: str, command: str) -> subprocess.CompletedProcess[str]:
        known = f"UserKnownHostsFile={self.folder}/known_hosts"
        options = ["-o", "BatchMode=yes", "-o", "ControlPath=none", "-o", known]
        address = self.cluster.node(NODE).address
        words = ["ssh", *options, "-o", "IdentitiesOnly=yes", "-i", str(self.folder / "deploy"), f"{user}@{address}"]
        return subprocess.run([*words, command], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


@pytest.fixture(scope="module")
def machine(project: Project, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    yield Machine(project, cluster, tmp_path_factory.mktemp("fresh"))
    cluster.down(NODE)


def test_nothing_is_sent_to_a_machine_that_nobody_has_recognised(machine: Machine) -> None:
    said = machine.bootstrap("bootstrap", code=None)
    assert said.code != 0
    assert f"nobody has compared its host key {machine.fingerprint}" in said.output
    other = machine.bootstrap("bootstrap", "-e", f"host_key_fingerprint=SHA256:{'A' * 43}", code=None)
    assert f"but {machine.cluster.node(NODE).address} shows {machine.fingerprint}" in other.output
    refused = machine.answering("no")
    assert f"shows the host key {machine.fingerprint}" in refused
    assert "its host key was not confirmed" in refused
    assert not (machine.folder / "known_hosts").exists()
    assert "sshd" not in on(machine.cluster, NODE, "sh", "-c", "journalctl -u ssh -o cat | grep -i 'password' || true")


def test_it_becomes_a_node_and_goes_back_to_what_it_was(machine: Machine, tmp_path: Path) -> None:
    before = machine.files()
    given = ("-e", f"host_key_fingerprint={machine.fingerprint}")
    first = machine.bootstrap("bootstrap", *given)
    assert "reboot it: /boot/firmware/cmdline.txt has cgroup_enable=memory now" in first.output
    line = on(machine.cluster, NODE, "cat", "/boot/firmware/cmdline.txt")
    assert line == "console=tty1 root=/dev/sda rootwait cgroup_enable=memory\n"
    assert "nothing changed" in machine.bootstrap("bootstrap").output
    (machine.folder / "known_hosts").unlink()
    assert "nothing changed" not in machine.answering("yes"), "but the known hosts"
    assert "nothing changed" in machine.bootstrap("bootstrap").output
    after = machine.files()
    checked = machine.bootstrap("bootstrap", "--check", "-e", "harden_sshd=true", "--diff")
    assert "+PasswordAuthentication no" in checked.output
    assert machine.files() == after

    experiment = tmp_path / "first.yml"
    workload = {"rounds": 2, "max_tokens": 8}
    instances = [{"id": "solo", "ram_gb": 0.3}]
    experiment.write_text(yaml.safe_dump({"name": "first", "workload": workload, "instances": instances}))
    assert "COMPLETED" in machine.play("run_experiment.yml", "-e", f"experiment={experiment}").output
    shown = machine.ssh("fleet", "id -un; sudo -n id")
    assert (shown.stdout, "password is required" in shown.stderr) == ("fleet\n", True)

    asked = ("sh", "-c", "sshd -T | grep -iE '^(passwordauth|permitroot|allowusers)'")
    wide = on(machine.cluster, NODE, *asked)
    assert "passwordauthentication yes" in wide, "who could log in before still can"
    machine.bootstrap("bootstrap", "-e", "harden_sshd=true")
    narrow = on(machine.cluster, NODE, *asked)
    assert "passwordauthentication no" in narrow
    assert "permitrootlogin no" in narrow
    assert re.findall("allowusers (.*)", narrow) == ["fleet", "pi"]
    assert machine.ssh("fleet", "true").returncode == 0

    on(machine.cluster, NODE, "rm", "/etc/ssh/sshd_config.d/10-jarfleet.conf")  # pi has no key to come in by
    on(machine.cluster, NODE, "systemctl", "reload", "ssh")
    machine.bootstrap("unbootstrap", "-e", "remove_data=true")
    assert machine.ssh("fleet", "true").returncode != 0
    left = set(machine.files().splitlines()) - set(before.splitlines())
    assert [line for line in left if not line.startswith(LEFT)] == []
    assert "nothing changed" in machine.bootstrap("unbootstrap", "-e", "remove_data=true").output
