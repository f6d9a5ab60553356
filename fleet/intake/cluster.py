"""What Ansible's variables say of the cluster, as plain data: the nodes' host variables and their measured states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from placement import BadInput, Fault
from placement.adapters.hostvars import MAX_NODES, too_many

CLUSTER_KEYS: dict[str, dict[str, tuple[type, ...]]] = {
    "health_check": {"enabled": (bool,), "interval_seconds": (int, float)},
    "failover": {"enabled": (bool,), "auto_restart": (bool,)},
}
NEEDED = ("ssh_user", "remote_work_dir", "llama_cpp_build", "llama_cpp_builds")


def node_hostvars(task_vars: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Host variables of every host in the group `nodes`. Raises BadInput when they are too many to ask for them."""
    hostvars, names = task_vars["hostvars"], task_vars["groups"].get("nodes", [])
    if len(names) > MAX_NODES:
        raise BadInput([too_many("inventory", len(names))])
    return {str(name): hostvars[name] for name in names}


def inventory_source(hostvars: Mapping[str, Mapping[str, Any]]) -> str:
    """The inventory's file, to name in faults."""
    return str(
        next(
            (variables["inventory_file"] for variables in hostvars.values() if variables.get("inventory_file")),
            "inventory",
        )
    )


def node_states(hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any] | None]:
    """What node_state measured on each node, None for one that did not answer."""
    return {name: (variables.get("node_probe") or {}).get("state") for name, variables in hostvars.items()}


def cluster_faults(hostvars: Mapping[str, Mapping[str, Any]], source: str) -> list[Fault]:
    """What is wrong with the variables that only launching needs, each named once."""
    faults: dict[tuple[str, str], Fault] = {}
    for name, variables in hostvars.items():
        for key in NEEDED:
            if not variables.get(key):
                faults[name, key] = Fault(
                    source, f"nodes.{name}.{key}", "missing; declare it for the node or its group"
                )
        build, builds = variables.get("llama_cpp_build"), variables.get("llama_cpp_builds") or {}
        if build and build not in builds:
            known = ", ".join(sorted(builds))
            faults[name, "build"] = Fault(source, f"nodes.{name}.llama_cpp_build", f"{build!r} is none of {known}")
        for section, keys in CLUSTER_KEYS.items():
            declared = variables.get(section) or {}
            for key in set(declared) - set(keys):
                faults["", f"{section}.{key}"] = Fault(
                    source, f"{section}.{key}", f"unknown; known are {', '.join(keys)}"
                )
            for key, kinds in keys.items():
                if key in declared and not isinstance(declared[key], kinds):
                    faults["", f"{section}.{key}"] = Fault(
                        source, f"{section}.{key}", f"{declared[key]!r} is of the wrong type"
                    )
    return list(faults.values())
