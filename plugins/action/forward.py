"""Action plugin `forward`: see plugins/modules/forward.py for its documentation."""

from __future__ import annotations

import contextlib
import json
import shlex
import socketserver
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleActionFail

from contract.calls import Call, Known
from contract.description import InstanceRef
from contract.names import NODE_PROGRAM
from fleet.base.transport import ssh_command
from plugins.base import Action, Result

TRY_SECONDS = 30
BLOCK = 65536


class ActionModule(Action):
    """Opens an instance's llama-server on this machine's loopback, over SSH, until it is interrupted."""

    ARGUMENTS = {
        "instance_ref": {"type": "dict", "required": True},
        "local_port": {"type": "int", "default": 0},
        "seconds": {"type": "float", "default": 0},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        ref = InstanceRef.from_json(given["instance_ref"], "instance_ref")
        if self.check:
            return {"changed": False}
        connect, call = self._connect_command(), Call("connect", Known(ref).to_json())
        opening = json.dumps(call.to_json()).encode() + b"\n"
        tried = subprocess.run(connect, input=opening, capture_output=True, timeout=TRY_SECONDS)
        if tried.returncode != 0:
            said = tried.stderr.decode(errors="replace").strip()
            raise AnsibleActionFail(f"{ref.id}: its llama-server cannot be reached: {said}")
        with Forward(given["local_port"], connect, opening) as server:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            self.show(f"{task_vars['inventory_hostname']}: {url}  (Ctrl-C ends it)")
            if given["seconds"]:
                ending = threading.Timer(given["seconds"], server.shutdown)
                ending.daemon = True
                ending.start()
            # In the main thread, which looks for signals twice a second: one that the kernel gives to another thread
            # does not end a wait without a limit (seen with Linux 6.18, while a connection was being closed).
            server.serve_forever()
        return {"changed": False, "url": url}

    def _connect_command(self) -> list[str]:
        """Return the command that carries one connection on its standard input and output, after its call."""
        remote = ["sudo", "-n", NODE_PROGRAM]
        if self._connection.transport == "local":
            return remote
        return [*ssh_command(self._connection, self._connection.get_option("host")), shlex.join(remote)]


class Forward(socketserver.ThreadingTCPServer):
    """Listens on 127.0.0.1 and gives each connection to a process of its own."""

    daemon_threads = True

    def __init__(self, port: int, command: Sequence[str], opening: bytes) -> None:
        self.command, self.opening = command, opening
        super().__init__(("127.0.0.1", port), Handler)


class Handler(socketserver.BaseRequestHandler):
    """One connection."""

    server: Forward

    def handle(self) -> None:
        """Run until either end closes."""
        with subprocess.Popen(
            self.server.command, stdin=subprocess.PIPE, stdout=self.request, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdin is not None  # noqa: S101 - for the type checker: it is a pipe
            with contextlib.suppress(OSError), process.stdin as remote:
                remote.write(self.server.opening)
                remote.flush()
                for block in iter(lambda: self.request.recv(BLOCK), b""):
                    remote.write(block)
                    remote.flush()
