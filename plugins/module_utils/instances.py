"""What a node knows of its instances: read from its disk and its systemd, never remembered. Python >= 3.8."""

from __future__ import annotations

import json
import os
import subprocess

SYSTEMD = "/etc/systemd/system"
UNITS = ("workload", "llama")  # of every instance; each end of theirs is written down
TAP = "tap"  # of an instance that is observed: it serves its stream at its peer port, until the whole run has ended
ALIVE = ("PENDING", "RUNNING", "CRASHED")


def unit_name(run_id: str, instance_id: str, unit: str) -> str:
    """The systemd unit of one instance's `workload`, `llama` or `tap`."""
    return f"jarfleet-{run_id}-{instance_id}-{unit}.service"


def slice_name(run_id: str, instance_id: str) -> str:
    """The slice that bounds workload and llama; systemd nests it in one slice a run, and those in jarfleet.slice."""
    return f"jarfleet-{run_id}-{instance_id}.slice"


def read_json(path: str) -> dict:
    """A JSON object from a file; {} when it is not there (or not yet whole)."""
    try:
        with open(path, encoding="utf-8") as handle:
            return json.load(handle)
    except (OSError, ValueError):
        return {}


def show_units(names: list[str]) -> dict[str, dict[str, str]]:
    """`systemctl show` of many units in one call: {unit: {property: value}}."""
    if not names:
        return {}
    properties = "Id,ActiveState,SubState,InactiveEnterTimestamp,MainPID"
    text = subprocess.run(
        ["systemctl", "show", "--property", properties, "--", *names], stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def shutting_down() -> bool:
    """Whether the node goes down just now: what it stopped for that will go on when it is up again."""
    done = subprocess.run(["systemctl", "is-system-running"], stdout=subprocess.PIPE, text=True)
    return done.stdout.strip() == "stopping"


def status(outcome: dict, workload: dict[str, str]) -> str:
    """An instance's status from what it left on disk and what systemd says of its workload unit.

    The outcome on disk counts first: it survives a reboot, systemd's memory does not.
    """
    if outcome:
        return str(outcome["outcome"])
    by_state = {"active": "RUNNING", "reloading": "RUNNING", "deactivating": "RUNNING", "failed": "FAILED"}
    state = workload.get("ActiveState", "inactive")
    if state == "activating":
        return "CRASHED" if workload.get("SubState") == "auto-restart" else "PENDING"
    if state == "inactive" and workload.get("InactiveEnterTimestamp") and not shutting_down():
        return "STOPPED"  # by a person with systemctl: it ran, and left no outcome
    return by_state.get(state, "PENDING")


def deaths(path: str, unit: str) -> int:
    """How often a unit of the instance in this folder died; systemd's own count dies with the unit."""
    try:
        with open(os.path.join(path, "logs", "exits.jsonl"), encoding="utf-8", errors="replace") as lines:
            ends = [_line(line) for line in lines]
    except OSError:
        return 0
    # An instance that was started before causes were written down has systemd's result alone.
    causes = [end.get("cause", end.get("result")) for end in ends if end.get("unit") == unit]
    return sum(cause not in ("completed", "stopped", "success") for cause in causes)


def _line(text: str) -> dict:
    """The JSON object in a line; {} in one that a power cut has torn."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def shortages(description: dict, room: dict, others: list[dict]) -> list[str]:
    """Why an instance cannot be admitted beside those that are on the node already, a reason each; none: it can.

    description: what becomes its instance.json; room: "max_instances", "ram_gb" and "gpu_memory_gb" of the node;
    others: as read_instances() gives them.
    """
    mine, found = description["resources"], []
    alive = [other for other in others if other["status"] in ALIVE]
    if len(alive) >= room["max_instances"]:
        found.append(f"{len(alive)} of {room['max_instances']} slots are taken")
    pools = [("RAM", "ram_gb", mine["takes_ram_gb"], [other["takes_ram_gb"] for other in alive])]
    if mine["uses_gpu"]:
        held = [other["gpu_memory_gb"] for other in alive if other["uses_gpu"]]
        pools.append(("GPU memory", "gpu_memory_gb", mine["gpu_memory_gb"], held))
    for what, key, needs, taken in pools:
        if sum(taken) + needs > room[key] + 1e-6:
            found.append(f"{sum(taken):.1f} of {room[key]:.1f} GB of {what} are taken, it needs {needs:.1f}")
    clashes = set(description["ports"].values()) & {port for other in others for port in other["held_ports"]}
    if clashes:
        found.append(f"port {', '.join(map(str, sorted(clashes)))} is given out")
    return found


def read_instances(work_dir: str, run_id: str = "") -> list[dict]:
    """Every instance that this node holds (of one run, if named), as it is now, in the order of run and id."""
    root = os.path.join(work_dir, "instances")
    runs = [run_id] if run_id else sorted(os.listdir(root)) if os.path.isdir(root) else []
    found = []
    for run in runs:
        folder = os.path.join(root, run)
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            path = os.path.join(folder, name)
            spec = read_json(os.path.join(path, "instance.json"))
            if spec:
                found.append((path, spec, read_json(os.path.join(path, "outcome.json"))))
    names = [unit_name(spec["run_id"], spec["id"], unit) for _, spec, outcome in found if not outcome for unit in UNITS]
    units = show_units(names)
    return [_instance(path, spec, outcome, units) for path, spec, outcome in found]


def _instance(path: str, spec: dict, outcome: dict, units: dict[str, dict[str, str]]) -> dict:
    workload = units.get(unit_name(spec["run_id"], spec["id"], "workload"), {})
    now = status(outcome, workload)
    observed = os.path.exists(os.path.join(SYSTEMD, unit_name(spec["run_id"], spec["id"], TAP)))
    return {
        "run_id": spec["run_id"],
        "id": spec["id"],
        "dir": path,
        "experiment": spec["experiment"],
        "status": now,
        "ended": outcome.get("time", ""),
        "ram_gb": spec["resources"]["ram_gb"],
        "takes_ram_gb": spec["resources"]["takes_ram_gb"],
        "gpu_memory_gb": spec["resources"]["gpu_memory_gb"],
        "uses_gpu": spec["resources"]["uses_gpu"],
        "observed": observed,
        "ports": spec["ports"],
        "held_ports": list(spec["ports"].values()) if now in ALIVE else [spec["port"]] if observed else [],
        "deaths": {unit: deaths(path, unit) for unit in UNITS},
        "progress": read_json(os.path.join(path, "progress.json")),
    }
