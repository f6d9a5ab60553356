"""Action plugin `forward`: see plugins/modules/forward.py for its documentation."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail

from fleet.base.transport import ssh_command
from plugins.base import Action, Result

START_SECONDS = 15


class ActionModule(Action):
    """Keeps a port of a node open on this machine's loopback, over SSH, until it is interrupted."""

    ARGUMENTS = {
        "port": {"type": "int", "required": True},
        "observed": {"type": "bool", "default": False},
        "local_port": {"type": "int", "default": 0},
        "seconds": {"type": "float", "default": 0},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        name = task_vars["inventory_hostname"]
        if given["observed"]:
            raise AnsibleActionFail(
                f"{name} is observed: its llama-server is in a network of its own, into which no port can be forwarded"
            )
        local = given["local_port"] or _free_port()
        url = f"http://127.0.0.1:{local}"
        if self._task.check_mode:
            return {"changed": False, "url": url}
        if self._connection.transport == "local":
            url = f"http://127.0.0.1:{given['port']}"
            self.show(f"{name}: {url} (this machine itself, nothing to forward)")
            return {"changed": False, "url": url}
        # `-S none`: a separate connection, so that the port closes with it. 127.0.0.1 on both ends only.
        command = ssh_command(
            self._connection, "-S", "none", "-N", "-o", "ExitOnForwardFailure=yes",
            "-L", f"127.0.0.1:{local}:127.0.0.1:{given['port']}", self._connection.get_option("host"),
        )  # fmt: skip
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as ssh:
            try:
                self._wait_open(ssh, local)
                self.show(f"{name}: {url}  (Ctrl-C ends it)")
                ssh.wait(given["seconds"] or None)
            except subprocess.TimeoutExpired:
                return {"changed": False, "url": url}
            finally:
                ssh.terminate()
        raise AnsibleActionFail(f"the forward to {name} broke off: ssh exited with {ssh.returncode}")

    def _wait_open(self, ssh: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if ssh.poll() is not None:
                said = ssh.stderr.read().decode(errors="replace").strip() if ssh.stderr else ""
                raise AnsibleActionFail(f"ssh could not forward to 127.0.0.1:{port}: {said}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AnsibleActionFail(f"127.0.0.1:{port} did not open within {START_SECONDS} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
