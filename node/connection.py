"""Connects standard input and output to an instance's llama-server, in whatever network that is."""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
from pathlib import Path
from typing import cast

from contract import names
from contract.description import InstanceRef

from . import systemd
from .errors import NodeError
from .health import network_of
from .instances import read_description

BLOCK = 65536
CONNECT_SECONDS = 5


def connect(ref: InstanceRef) -> None:
    """Carry bytes both ways until either end closes. Raises NodeError, OSError, ContractError."""
    instance = read_description(Path(ref.dir))
    unit = names.unit_name(instance.run_id, instance.id, names.LLAMA)
    pid = systemd.show([unit]).get(unit, {}).get("MainPID", "0")
    if pid == "0":
        raise NodeError(f"{instance.id}: its llama-server does not run")
    with network_of(pid), socket.create_connection(
        ("127.0.0.1", instance.ports[names.LLAMA]), CONNECT_SECONDS
    ) as server:
        server.settimeout(None)
        threading.Thread(target=_send, args=(server,), daemon=True).start()
        for block in iter(lambda: server.recv(BLOCK), b""):
            _write(block)


def _send(server: socket.socket) -> None:
    stdin = cast(io.BufferedReader, sys.stdin.buffer)  # from which the call was read, and perhaps more
    for block in iter(lambda: stdin.read1(BLOCK), b""):
        server.sendall(block)
    server.shutdown(socket.SHUT_WR)


def _write(block: bytes) -> None:
    while block:
        block = block[os.write(1, block) :]
