"""Ray's placement groups on a cluster of tests.bench.clusters: how long until Ray has decided, and reserved.

Every node is a raylet of its own on this machine (ray.cluster_utils.Cluster), with the node's RAM, GPU memory and slots
as custom resources; all instances are the bundles of one placement group, which Ray reserves all or nothing.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from placement import Instance, Node

STRATEGIES = ("PACK", "SPREAD")
TIMES = 5
SETTLE_S = 1.0  # between two groups: raylets report what was given back about every 0.1 s
STORE_BYTES = 80 * 2**20  # Ray's least for a node's object store


def placement_groups(nodes: list[Node], instances: list[Instance], cap_s: float) -> dict[str, Any]:
    """`{"ray": version, "start_s": ..., "PACK": {"seconds": median or None, "reserved": times of TIMES}, ...}`.

    A group that is not reserved after `cap_s` seconds counts as not reserved. Raises ImportError without Ray.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    bundles = [_bundle(instance) for instance in instances]
    start = time.perf_counter()
    with _cluster(nodes):
        result: dict[str, Any] = {"ray": ray.__version__, "start_s": time.perf_counter() - start}
        for strategy in STRATEGIES:
            seconds = []
            for _ in range(TIMES):
                start = time.perf_counter()
                group = placement_group(bundles, strategy=strategy)
                if group.wait(cap_s):
                    seconds.append(time.perf_counter() - start)
                remove_placement_group(group)
                time.sleep(SETTLE_S)
            result[strategy] = {
                "seconds": statistics.median(seconds) if seconds else None,
                "reserved": len(seconds),
            }
    return result


def _bundle(instance: Instance) -> dict[str, float]:
    """What Ray can be told of an instance: a preferred GPU, preferred nodes and relations are no demands there."""
    needs = {"slot": 1.0, "ram": round(instance.ram_gb, 4)}
    if instance.gpu == "required":
        needs["gpu_memory"] = max(0.001, round(instance.gpu_memory_gb, 4))
    return needs


@contextlib.contextmanager
def _cluster(nodes: list[Node]) -> Iterator[None]:
    """A Ray cluster with a raylet a node, and a head that takes nothing; its processes end with the block."""
    import ray
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        started = Cluster()
        try:
            started.add_node(num_cpus=0, object_store_memory=STORE_BYTES, include_dashboard=False, temp_dir=folder)
            for node in nodes:
                resources = {"slot": float(node.max_instances), "ram": node.ram_gb - node.reserved_ram_gb}
                if node.gpu:
                    resources["gpu_memory"] = node.gpu_memory_gb
                started.add_node(
                    num_cpus=0, object_store_memory=STORE_BYTES, resources=resources, temp_dir=folder, wait=False
                )
            started.wait_for_nodes(timeout=600)
            ray.init(address=started.address, log_to_driver=False, logging_level="ERROR")
            yield
        finally:
            ray.shutdown()
            started.shutdown()
