"""Names that controller and node must form alike: units, slices, and the files of an instance.

A run's units are named for its run id and its instance ids, so a node needs no list to find them again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Tuple

# No "-": in a systemd slice's name it means nesting. No "." or "/": the id is a folder's name too.
RUN_ID = re.compile(r"[A-Za-z0-9_]{1,80}_(\d{8}T\d{6})Z_[0-9a-f]{4}", re.ASCII)
INSTANCE_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}", re.ASCII)

FIRST_PART = re.compile(r"(.+)-00001-of-(\d{5})\.gguf", re.DOTALL)  # of a model, as llama-gguf-split names it
# A login name as useradd takes it.
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\$?", re.ASCII)
# What no path of a work dir may hold: systemd gives ":" a meaning of its own, and a control character ends a directive.
UNFIT_FOR_PATHS = re.compile(r"[\x00-\x1f\x7f-\x9f:\\]")

# Units of every instance; each exit of theirs is written down.
WORKLOAD, LLAMA = "workload", "llama"
UNITS = (WORKLOAD, LLAMA)
# The stream relay of an instance that is observed: it serves the instance's stream at its peer port until the whole run
# has ended. "tap" is its name in the units of runs that were started before it was called a relay.
RELAY, OLD_RELAY = "relay", "tap"
RELAYS = (RELAY, OLD_RELAY)
# Runs once before an instance's code, in a unit like its workload's: see `contract.receipt`.
PROBE = "probe"
# Root's: keeps an instance's folder within its size.
GUARD = "guard"
# What connects an instance's private network with others: units of these names, each a socket and a service.
INBOUND = "in"
OUTBOUND = "to_"  # and the id of the instance that it leads to

UNIT_FOLDER = Path("/etc/systemd/system")

# Files of an instance, in its folder.
DESCRIPTION = "instance.json"
OUTCOME = "outcome.json"
PROGRESS = "progress.json"
DATABASE = "experiments.db"
EXIT_LOG = "logs/exits.jsonl"
STREAM = "logs/stream.jsonl"
CHECKPOINTS = "checkpoints"  # of llama-server, in its own form

# What units run as root to record starts and exits (`node/__main__.py`): a link to the version sent last.
NODE_PROGRAM = "/opt/jarfleet/node.pyz"
# Root's: the credentials of the instances on a node. systemd gives each its own, as its workload's standard input.
CREDENTIALS_FOLDER = "/var/lib/jarfleet/credentials"
# Root's: where copies go when the disk is full.
SPARE_COPIES_FOLDER = "/run/jarfleet/copies"
# Root's: what is tried from inside each instance's unit before its code runs, and what came of it.
PROBES_FOLDER = "/var/lib/jarfleet/probes"
# Root's: the leases of the instances on a node, gone with the boot that they are of. A folder each, since that is what
# its units see: a file that is replaced would stay the old one in there.
LEASES_FOLDER = "/run/jarfleet/leases"
# Root's: which controller may renew leases here.
CONTROLLERS_FOLDER = "/var/lib/jarfleet/controllers"


def work_dir_problem(path: str) -> str:
    """Why a folder cannot be a node's work dir; empty if it can."""
    if UNFIT_FOR_PATHS.search(path) or path != path.encode(errors="replace").decode():
        return "holds a control character, a colon or a backslash"
    if not path.startswith("/"):
        return "is not an absolute path"
    if os.path.normpath(path) != path:
        return "is not in its shortest form, without .., . and a / at the end"
    if path == "/" or path.split("/")[1] in ("dev", "etc", "proc", "run", "sys", "usr"):
        return "is a folder of the system's"
    return ""


def unit_name(run_id: str, instance_id: str, unit: str) -> str:
    """The systemd service of one instance's workload, llama-server or stream relay."""
    return f"jarfleet-{run_id}-{instance_id}-{unit}.service"


def socket_name(run_id: str, instance_id: str, unit: str) -> str:
    """The socket in front of a service of unit_name()."""
    return f"jarfleet-{run_id}-{instance_id}-{unit}.socket"


def slice_name(run_id: str, instance_id: str) -> str:
    """The slice that bounds workload and llama-server; systemd nests it in the run's, and that in jarfleet.slice."""
    return f"jarfleet-{run_id}-{instance_id}.slice"


def run_slice_name(run_id: str) -> str:
    """The slice around all instances of a run on a node."""
    return f"jarfleet-{run_id}.slice"


def start_file(unit: str) -> str:
    """Where a unit's last start is written down, in the instance's folder."""
    return f"logs/{unit}.start.json"


def instances_folder(work_dir: str) -> str:
    """The folder of all instances on a node: one folder a run in it, and in that one a folder an instance."""
    return f"{work_dir}/instances"


def instance_folder(work_dir: str, run_id: str, instance_id: str) -> str:
    """An instance's folder on its node."""
    return f"{instances_folder(work_dir)}/{run_id}/{instance_id}"


def earlier_folder(folder: str, epoch: int) -> str:
    """Where an instance's folder lies once the instance was resumed: no instance has a name like it."""
    return f"{folder}.e{epoch}"


def checkpoint_file(work_dir: str, instance_id: str, sha256: str) -> str:
    """A file on its way into the folder of an instance that is resumed, named for the hash of its content."""
    return f"{checkpoints_folder(work_dir)}/{instance_id}.{sha256}"


def checkpoints_folder(work_dir: str) -> str:
    """The folder of those files."""
    return f"{work_dir}/checkpoints"


def records_folder(work_dir: str) -> str:
    """The folder of the records that a node keeps for the controller: `failover.checkpoint_store`."""
    return f"{work_dir}/records"


def record_folder(work_dir: str, run_id: str) -> str:
    """The copy of one run's record."""
    return f"{records_folder(work_dir)}/{run_id}"


def copies_folders(work_dir: str, run_id: str, instance_id: str) -> Tuple[str, ...]:
    """Where a collection leaves its copies for the controller to fetch, out of the instance's reach.

    The first is on the work dir's disk, the second in memory for when that is full.
    """
    return f"{work_dir}/copies/{run_id}/{instance_id}", f"{SPARE_COPIES_FOLDER}/{run_id}/{instance_id}"


def credentials_file(run_id: str, instance_id: str, unit: str) -> str:
    """The credentials of a unit of an instance."""
    return f"{CREDENTIALS_FOLDER}/{run_id}-{instance_id}-{unit}.json"


def attempts_file(run_id: str, instance_id: str) -> str:
    """What is tried from inside an instance's unit."""
    return f"{PROBES_FOLDER}/{run_id}-{instance_id}.attempts.json"


def receipt_file(run_id: str, instance_id: str) -> str:
    """What came of it."""
    return f"{PROBES_FOLDER}/{run_id}-{instance_id}.receipt.json"


def restored_file(run_id: str, instance_id: str) -> str:
    """What came of restoring its llama-server's slot."""
    return f"{PROBES_FOLDER}/{run_id}-{instance_id}.restored.json"


def spoiled_file(run_id: str, instance_id: str) -> str:
    """Is there when its llama-server has failed to restore a slot, and was not started anew since."""
    return f"{PROBES_FOLDER}/{run_id}-{instance_id}.spoiled"


def lease_folder(run_id: str, instance_id: str) -> str:
    """The folder of an instance's lease."""
    return f"{LEASES_FOLDER}/{run_id}-{instance_id}"


def lease_file(run_id: str, instance_id: str) -> str:
    """An instance's lease."""
    return f"{lease_folder(run_id, instance_id)}/lease.json"


def fence_name(run_id: str, instance_id: str, until: str = "*") -> str:
    """The units that end an instance with a lease, a timer and its service; `until` tells one lease from the next."""
    return f"jarfleet-lease-{run_id}-{instance_id}-{until}"


def releases_folder(work_dir: str) -> str:
    """The folder of all releases on a node."""
    return f"{work_dir}/releases"


def models_folder(work_dir: str) -> str:
    """The folder of all models on a node."""
    return f"{work_dir}/models"


def packages_folder(work_dir: str, digest: str = "") -> str:
    """The folder of all packages on a node, or the one of a digest of its content."""
    return f"{work_dir}/packages/{digest}".rstrip("/")


def incoming_folder(work_dir: str) -> str:
    """Where what is sent to a node arrives."""
    return f"{work_dir}/incoming"


def release_folder(work_dir: str, release: str) -> str:
    """A release's folder on a node, named for the hash of its content."""
    return f"{releases_folder(work_dir)}/{release}"


def current_release_link(work_dir: str) -> str:
    """The link to the release that was sent last."""
    return f"{releases_folder(work_dir)}/current"


def model_files(work_dir: str, sha256: str, parts: int = 1) -> Tuple[str, ...]:
    """A model on the node, named for the hash of its content; in several files as llama.cpp names its parts."""
    path = f"{models_folder(work_dir)}/{sha256}.gguf"
    return numbered_parts(path, parts) if parts > 1 else (path,)


def numbered_parts(path: str, parts: int) -> Tuple[str, ...]:
    """The files of a model in several, by the path that it would have in one."""
    return tuple(f"{path[: -len('.gguf')]}-{number:05}-of-{parts:05}.gguf" for number in range(1, parts + 1))


def parts_of(first: str) -> Tuple[str, ...]:
    """The files of a model, by the one that llama-server is started with: the first of its parts."""
    match = FIRST_PART.fullmatch(first)
    return numbered_parts(f"{match[1]}.gguf", int(match[2])) if match else (first,)


def node_program(sha256: str) -> str:
    """One version of the node's program, named for the hash of its content."""
    return f"/opt/jarfleet/{sha256}.pyz"


def host_name(instance_id: str, node: str) -> str:
    """The name of an instance as an Ansible host: `a@jetson`."""
    return f"{instance_id}@{node}"


def split_host_name(name: str) -> Tuple[str, str]:
    """(instance, node) of a host_name()."""
    instance_id, _, node = name.partition("@")
    return instance_id, node
