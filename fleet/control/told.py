"""What `status` tells of the control loop: whether it runs, what it looks after, and what waits for something."""

from __future__ import annotations

from collections.abc import Collection

from fleet.control.desired_store import store_of
from fleet.control.loop_file import folder_of
from fleet.control.one_at_a_time import holder


def told(cluster: str) -> str:
    """Return lines for a person; empty where no loop was ever started."""
    store = store_of(cluster)
    if store is None:
        return ""
    stored, who = store.read(), holder(folder_of(cluster))
    lines = [f"control loop: {who.words}" if who else "control loop: none runs; playbooks/control.yml starts it"]
    lines += [f"it does not hear of {node}: {problem}" for node, problem in stored.links.items() if who and problem]
    for run in stored.runs.values():
        does = f", which it {run.acting}" if run.acting else ", which is being started" if run.starter else ""
        lines.append(f"it looks after {run.run_id}{does}")
        lines += [f"{id} of {run.run_id} waits: {reason}" for id, reason in run.waits.items()]
    return "\n".join(lines)


def problems(cluster: str, instances: Collection[tuple[str, str]]) -> str:
    """Return why these instances (run, id) of a node that is drained cannot be moved; empty where that is not known."""
    store = store_of(cluster)
    runs = store.read().runs if store else {}
    found = (runs[run_id].waits.get(id) for run_id, id in instances if run_id in runs)
    return "; ".join(dict.fromkeys(filter(None, found)))
