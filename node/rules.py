"""Whether a call is within what this node's administrator allows (`contract.calls.LocalRules`)."""

from __future__ import annotations

import os
import re
import socket
import stat
from pathlib import Path
from typing import Collection, Optional
from urllib.parse import urlsplit

from contract import names
from contract.calls import RULES, RULES_LIMIT, LocalRules
from contract.description import InstanceRef
from contract.launch_spec import LaunchSpec

from .artifacts import Artifact
from .errors import NodeError

MODEL = re.compile(r"[0-9a-f]{64}(-00001-of-\d{5})?\.gguf", re.ASCII)
DIGEST = re.compile(r"[0-9a-f]{20}")  # names a build of llama.cpp, and a release
CURE = "bootstrap.yml wrote down what is, in /etc/jarfleet/node.json"


def read() -> Optional[LocalRules]:
    """The node's rules; None where nobody has made any. Raises ContractError."""
    try:
        return LocalRules.from_file(Path(RULES), RULES_LIMIT, 0)
    except FileNotFoundError:
        return None


def check_place(rules: Optional[LocalRules], work_dir: str, owner: str) -> None:
    """Raises NodeError unless the node serves this user in this folder."""
    if problem := names.work_dir_problem(work_dir):
        raise NodeError(f"remote_work_dir {work_dir!r} {problem}")
    if rules and (work_dir, owner) != (rules.work_dir, rules.owner):
        raise NodeError(
            f"remote_work_dir {work_dir!r} of {owner!r}: this node has {rules.work_dir!r} of {rules.owner!r}; {CURE}"
        )
    if rules and (others := _not_roots(work_dir)):
        raise NodeError(f"remote_work_dir {work_dir!r}: {others} can be changed by others than root; {CURE}")


def _not_roots(path: str) -> str:
    """The first folder on the way to a path, itself included, that not root alone can change; empty if all are."""
    whole = Path(path)
    for folder in [*reversed(whole.parents), whole]:
        if not os.path.lexists(str(folder)):
            return ""
        found = os.lstat(str(folder))
        if found.st_uid != 0 or stat.S_ISLNK(found.st_mode) or found.st_mode & 0o022:
            return str(folder)
    return ""


def check_ref(rules: Optional[LocalRules], ref: InstanceRef) -> None:
    """Raises NodeError unless it names an instance of this node's."""
    if not names.RUN_ID.fullmatch(ref.run_id) or not names.INSTANCE_ID.fullmatch(ref.id):
        raise NodeError(f"{ref.run_id!r} and {ref.id!r} are not a run id and an instance id")
    check_place(rules, ref.work_dir, ref.owner)


def check_build(rules: Optional[LocalRules], llama_cpp: str) -> None:
    """Raises NodeError unless it is the folder of a build of llama.cpp of this node's."""
    home, build = os.path.split(llama_cpp)
    if rules and (home != rules.llama_cpp or not DIGEST.fullmatch(build)):
        raise NodeError(f"llama_cpp {llama_cpp!r}: not allowed on this node; {CURE}")


def check_spec(rules: Optional[LocalRules], spec: LaunchSpec) -> None:
    """Raises NodeError unless everything that the spec names lies where it must, and is no more than allowed."""
    check_ref(rules, spec.ref)
    if not rules:
        return
    found, wanted = spec.description, spec.limits
    release = os.path.basename(spec.release_dir)
    model = str(found.model.get("path", ""))
    problems = {
        f"release {spec.release_dir!r}": spec.release_dir != names.release_folder(spec.work_dir, release)
        or not DIGEST.fullmatch(release),
        f"packages {spec.packages_dir!r}": bool(spec.packages_dir)
        and not _is_packages(spec.work_dir, spec.packages_dir),
        f"model {model!r}": os.path.dirname(model) != names.models_folder(spec.work_dir)
        or not MODEL.fullmatch(os.path.basename(model)),
        f"folder {str(found.dir)!r}": str(found.dir) != spec.dir,
        f"ports {sorted(found.ports.values())}": not all(
            rules.ports[0] <= port <= rules.ports[1] for port in found.ports.values()
        ),
        f"health {sorted(spec.health.values())}": not all(
            _is_own(url, found.ports.values()) for url in spec.health.values()
        ),
        f"memory of {wanted.memory_bytes} bytes": wanted.memory_bytes > rules.memory_gb * 2**30,
    }
    wrong = [what for what, is_wrong in problems.items() if is_wrong]
    if wrong:
        raise NodeError(f"{'; '.join(wrong)}: not allowed on this node; {CURE}")


def _is_packages(work_dir: str, folder: str) -> bool:
    digest = os.path.basename(folder)
    return bool(DIGEST.fullmatch(digest)) and folder == names.packages_folder(work_dir, digest)


def _is_own(url: str, ports: Collection[int]) -> bool:
    """Whether a URL is that of one of these ports on this node: root will ask it."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.port not in ports:
        return False
    with socket.socket(
        socket.AF_INET6 if ":" in (parts.hostname or "") else socket.AF_INET, socket.SOCK_DGRAM
    ) as probe:
        try:
            probe.bind((parts.hostname, 0))
        except OSError:
            return False
    return True


def check_artifact(rules: Optional[LocalRules], item: Artifact) -> None:
    """Raises NodeError unless it is a build of llama.cpp or its model, where those belong."""
    folder, name = os.path.split(item.dest)
    is_known = DIGEST.fullmatch(name) or name == f"verify-{item.sha256}.gguf"
    if rules and not (item.root_owned and folder == rules.llama_cpp and is_known and not item.link):
        raise NodeError(f"{item.name}: {item.dest!r} is no place for it on this node; {CURE}")
