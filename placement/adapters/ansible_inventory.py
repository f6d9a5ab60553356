"""Run `ansible-inventory` with limits on size, time and memory: the only module here that depends on Ansible."""

import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from placement.adapters.hostvars import AT_MOST, MAX_NODES
from placement.faults import BadInput, Fault

MAX_BYTES = 8 * 2**20  # limit for all files of an inventory together
MAX_LINES = 50 * MAX_NODES
READ_SECONDS = 120  # limit for ansible-inventory; 10,000 nodes took it 15 CPU-seconds
READ_MEMORY = 4 * 2**30  # bytes of address space for ansible-inventory; 10,000 nodes took it 0.4 GiB
CHECKOUT = Path(__file__).resolve().parents[2]
RANGE = re.compile(r"\[(\d+):(\d+)(?::(\d+))?\]")


def read_inventory(inventory: str, root: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Return the host variables of group `nodes`, as `ansible-inventory` lists them (templates stay unresolved).

    The project's own ansible.cfg counts, wherever this is run: it says which group's variables win.

    root: the folder whose group_vars/ and host_vars/ are also read. Raises BadInput.
    """
    root = Path(root) if root is not None else project_root()
    if "," not in inventory and not Path(inventory).exists():
        raise BadInput([Fault("inventory", inventory, "does not exist; give a path such as inventory/lab")])
    if faults := _size_faults(inventory):
        raise BadInput(faults)
    beside = Path(sys.executable).with_name("ansible-inventory")
    command = str(beside) if beside.exists() else shutil.which("ansible-inventory")
    if not command:
        raise BadInput([Fault("inventory", inventory, "ansible-inventory is not installed; pip install ansible-core")])
    with subprocess.Popen(  # noqa: S603 - no shell; the command is fixed, the inventory is the user's own
        [command, "-i", inventory, "--list", "--playbook-dir", str(root)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # own process group, so that processes started by an inventory script end too
        preexec_fn=_bound_memory,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
    ) as child:
        try:
            listed, said = child.communicate(timeout=READ_SECONDS)
        except subprocess.TimeoutExpired as error:
            problem = (
                f"ansible-inventory was not done in {READ_SECONDS} s; is it too large, or does a script in it hang?"
            )
            raise BadInput([Fault("inventory", inventory, problem)]) from error
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
    if child.returncode != 0:
        problem = f"ansible-inventory cannot read it: {' '.join(said.split())[-600:]}"
        raise BadInput([Fault("inventory", inventory, problem)])
    groups = json.loads(listed)
    hostvars = groups.get("_meta", {}).get("hostvars", {})
    return {name: hostvars.get(name, {}) for name in _members(groups, "nodes")}


def _size_faults(inventory: str) -> list[Fault]:
    """Return the signs that an inventory is too large, found without Ansible, which would take hours and all memory."""
    size = lines = number = 0
    for number, path in enumerate(_files(inventory), start=1):
        try:
            size += path.stat().st_size
            if size > MAX_BYTES or number > MAX_NODES:
                break
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError:  # ansible-inventory reports what is wrong with it
            continue
        lines += text.count("\n")
        if os.access(path, os.X_OK):  # a script, whose output is the inventory
            continue
        for word in re.split(r"[\s,\"']+", re.sub(r"^\s*[#;].*", "", text, flags=re.MULTILINE)):
            if (hosts := math.prod(map(_width, RANGE.findall(word)))) > MAX_NODES:
                return [Fault("inventory", str(path), f"{word[:60].rstrip(':')} names {hosts:,} hosts; {AT_MOST}")]
    if size > MAX_BYTES or number > MAX_NODES or lines > MAX_LINES:
        limits = f"more than {MAX_BYTES // 2**20} MiB, {MAX_NODES:,} files or {MAX_LINES:,} lines"
        return [Fault("inventory", inventory, f"{limits}; {AT_MOST}")]
    return []


def _files(inventory: str) -> Iterator[Path]:
    """Yield the regular files of an inventory: the file itself, or all files in a folder."""
    for part in inventory.split(","):
        if os.path.isfile(part):  # noqa: PTH113 - Path.is_file raises for a name that is too long
            yield Path(part)
        for folder, _, names in os.walk(part):
            yield from (path for name in names if (path := Path(folder, name)).is_file())


def _width(bounds: tuple[str, str, str]) -> int:
    """Return how many names a range such as [00:99] or [0:98:2] stands for."""
    if max(map(len, bounds)) > 12:
        return 10**12
    first, last, step = (int(bound or 1) for bound in bounds)
    return max(0, last - first) // max(1, step) + 1


def _bound_memory() -> None:
    """Limit the memory of the child process; runs in the child before it executes ansible-inventory."""
    resource.setrlimit(resource.RLIMIT_AS, (READ_MEMORY, READ_MEMORY))


def project_root() -> Path:
    """Return the working folder if it holds group_vars/, else the checkout that contains this package."""
    return Path.cwd() if Path("group_vars").is_dir() else CHECKOUT


def _members(groups: Mapping[str, Any], top: str) -> list[str]:
    """Return the hosts of a group and of its child groups."""
    hosts: dict[str, None] = {}
    todo, seen = [top], set()
    while todo:
        group = todo.pop()
        if group not in seen:
            seen.add(group)
            entry = groups.get(group, {})
            hosts.update(dict.fromkeys(entry.get("hosts", [])))
            todo += entry.get("children", [])
    return list(hosts)
