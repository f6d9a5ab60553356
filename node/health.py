"""Whether a started instance answers: its servers are asked in the network that they are in."""

from __future__ import annotations

import ctypes
import http.client
from contextlib import contextmanager
from typing import Iterator
from urllib.parse import urlsplit

ASK_SECONDS = 2


def ask(pid: str, url: str) -> str:
    """Ask a server at a URL from within the network of a process: its HTTP status, or why there is none."""
    if pid == "0":
        return "nothing"
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=ASK_SECONDS)
    try:
        with network_of(pid):
            connection.request("GET", parts.path)
            return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


@contextmanager
def network_of(pid: str) -> Iterator[None]:
    """Within, connections are made in the network of a process: the node's, or one of its own. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net", "rb") as home, open(f"/proc/{pid}/ns/net", "rb") as there:
        if libc.setns(there.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), f"the network of process {pid} cannot be entered")
        try:
            yield
        finally:
            libc.setns(home.fileno(), 0)
