"""An instance's receipt, on root's side: what is tried from inside its unit, and what it says.

systemd hands the attempts to the probe unit as its standard input and takes the results from its standard output: the
instance has neither.
"""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import List, Optional, Sequence

from contract import names
from contract.json_records import decoded, read_bytes
from contract.launch_spec import LaunchSpec
from contract.node_state import InstanceState
from contract.promises import Promises
from contract.receipt import LIMIT, Attempt, Attempts, Receipt

from . import known_promises, shared_folder

NEIGHBOURS = 4  # whose ports are tried, at most


def prepare(spec: LaunchSpec, others: Sequence[InstanceState]) -> None:
    """Write down what is tried when the instance starts. Raises OSError, ContractError."""
    folder = Path(names.PROBES_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    lacking = (known_promises.read() or Promises()).lacking
    asked = Attempts(tuple(_attempts(spec, others)), lacking)
    shared_folder.write(Path(names.attempts_file(spec.run_id, spec.id)), json.dumps(asked.to_json()), mode=0o600)


def receipt(run_id: str, instance_id: str) -> Optional[Receipt]:
    """What came of it; None where it was not tried (yet). Raises ContractError."""
    path = Path(names.receipt_file(run_id, instance_id))
    try:
        text = read_bytes(path, LIMIT, 0)
    except FileNotFoundError:
        return None
    promised = known_promises.read() or Promises()
    found = Receipt.from_json(decoded(text, path.name), path.name) if text.strip() else Receipt()
    return Receipt(found.results, promised.lacking, promised.systemd, "guard")


def remove(run_id: str, instance_id: str) -> None:
    """Remove both files."""
    for name in (names.attempts_file(run_id, instance_id), names.receipt_file(run_id, instance_id)):
        if os.path.exists(name):
            os.unlink(name)


def _attempts(spec: LaunchSpec, others: Sequence[InstanceState]) -> List[Attempt]:
    llama = spec.description.ports[names.LLAMA]
    folder, run = spec.dir, os.path.dirname(spec.dir)
    home = pwd.getpwnam(spec.owner).pw_dir
    below_home = spec.work_dir[len(home) + 1 :].split("/")[0] if spec.work_dir.startswith(f"{home}/") else ""
    return [
        Attempt("reach its llama-server", "connect", ("127.0.0.1", str(llama)), True),
        Attempt("write its folder", "create", (folder,), True),
        *(Attempt(f"reach {way.to}", "connect", ("127.0.0.1", str(way.local_port)), True) for way in spec.outbound),
        *_others(spec, others),
        Attempt("see processes of others", "processes", (), False, "private_processes"),
        Attempt("list its neighbours' folders", "list", (run, spec.id), False),
        Attempt("list other runs", "list", (os.path.dirname(run), spec.run_id), False),
        Attempt("list the copies for the controller", "list", (f"{spec.work_dir}/copies",), False),
        Attempt("list the SSH user's home", "list", (home, below_home), False),
        Attempt("list root's home", "list", ("/root",), False),
        Attempt("list the node's units", "list", (str(names.UNIT_FOLDER),), False),
        Attempt("ask the system bus", "exists", ("/run/dbus/system_bus_socket",), False),
        Attempt("write its exit log", "write", (f"{folder}/{names.EXIT_LOG}",), False),
        Attempt("write its description", "write", (f"{folder}/{names.DESCRIPTION}",), False),
        Attempt("become root by sudo", "run", ("/usr/bin/sudo", "-n", "/bin/true"), False),
        Attempt("read a device", "read", ("/dev/mem",), False),
        Attempt("read the kernel's log", "read", ("/dev/kmsg",), False),
    ]


def _others(spec: LaunchSpec, others: Sequence[InstanceState]) -> List[Attempt]:
    """Who is not among its peers: out of reach, unless its network is open."""
    expected = False if spec.private_network else None
    found = [("reach its node by the loopback", "127.0.0.1", 22)]
    found += [(f"reach the SSH server at {address}", address, 22) for address in spec.out_of_reach]
    controller = _controller()
    if controller:
        found.append(("reach the controller", controller, 22))
    neighbours = [one for one in others if one.alive and one.ports][:NEIGHBOURS]
    for one in neighbours:
        of = f"of {one.id}" if one.run_id == spec.run_id else f"of another run ({one.run_id})"
        found += [(f"reach the {name} port {of}", "127.0.0.1", port) for name, port in one.ports.items()]
    taken = {str(port) for port in spec.description.ports.values()} | {str(way.local_port) for way in spec.outbound}
    return [
        Attempt(name, "connect", (address, str(port)), expected, "private_network")
        for name, address, port in found
        if not (address == "127.0.0.1" and str(port) in taken)
    ]


def _controller() -> str:
    """The address that this process was logged in from; empty if by nobody over SSH."""
    pid = os.getpid()
    while pid > 1:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            parent = next(
                line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("PPid:")
            )
        except (OSError, StopIteration):
            return ""
        for entry in environment:
            if entry.startswith(b"SSH_CONNECTION="):
                return entry[len(b"SSH_CONNECTION=") :].split(b" ")[0].decode(errors="replace")
        pid = int(parent.split()[1])
    return ""
