"""Turn a `cluster_config.yaml` of the original into an Ansible inventory, as `inventory/lab/hosts.yml` is one."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from placement.adapters.experiment import parse_document, read_text
from placement.adapters.hostvars import nodes_from_hostvars, port_range_from_hostvars
from placement.adapters.schemas import schema_faults
from placement.faults import BadInput, Fault

# {the original's type of node: the group whose variables say what is true of that type}.
GROUPS = {"jetson_orin": "jetson_orin", "raspberry_pi": "raspberry_pi", "host": "host_pc", "generic": "generic"}
HERE = ("localhost", "127.0.0.1", "::1")


def import_cluster(path: Path) -> str:
    """Return the text of an inventory with a cluster config's nodes and settings. Raise BadInput with all faults."""
    raw, twice, values = parse_document(read_text(path), path)
    faults = [*twice, *values, *schema_faults("original_cluster", raw, str(path))]
    if not faults:
        faults += _twice_named(raw, str(path))
        faults += _impossible(raw, str(path))
    if faults:
        raise BadInput(dict.fromkeys(faults))
    head = (
        f"# Made of {path.name} by `python -m placement import-cluster`. To add: default_model, and what of\n"
        "# docs/reference.md a node requires and this leaves out. Compare host keys first: docs/real-hardware.md.\n"
    )
    return head + yaml.safe_dump(_inventory(raw), sort_keys=False, allow_unicode=True, width=120)


def _inventory(raw: Mapping[str, Any]) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for node in raw["nodes"]:
        hosts = groups.setdefault(GROUPS[node["type"]], {"hosts": {}})["hosts"]
        hosts[node["name"]] = _host(node)
    settings = _settings(raw)
    return {**({"all": {"vars": settings}} if settings else {}), "nodes": {"children": groups}}


def _settings(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of the whole cluster."""
    cluster, ports = raw.get("cluster", {}), raw.get("network", {}).get("peer_port_range")
    found = {
        "cluster_name": cluster.get("name"),
        "coordinator_host": cluster.get("coordinator_host"),
        "peer_port_range": ports,
        "health_check": raw.get("health_check"),
        "failover": raw.get("failover"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _host(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's variables; one that is this machine needs no SSH."""
    connection = {"ansible_connection": "local"} if node["host"] in HERE else {}
    given = {key: value for key, value in node.items() if key not in ("name", "host", "type")}
    return {**connection, "ansible_host": node["host"], **given}


def _twice_named(raw: Mapping[str, Any], file: str) -> Iterator[Fault]:
    for name, times in Counter(node["name"] for node in raw["nodes"]).items():
        if times > 1:
            yield Fault(file, f"nodes.{name}", f"{times} nodes have this name; give each its own")


def _impossible(raw: Mapping[str, Any], file: str) -> Iterator[Fault]:
    """Yield what no inventory may say of nodes and ports, such as GPU memory without a GPU."""
    hostvars = {node["name"]: {**_host(node), "node_type": node["type"]} for node in raw["nodes"]}
    unmeasured = {name: {"ram_gb": 1, **variables} for name, variables in hostvars.items()}
    try:
        nodes_from_hostvars(unmeasured, source=file)
        port_range_from_hostvars({"all": _settings(raw)}, file)
    except BadInput as error:
        yield from error.faults
