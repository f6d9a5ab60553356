"""To run again exactly what a run's signed manifest says, or to name everything that is not so any more.

Held to: the experiment's text, the code's hash, each model's sha256, each node's build of llama.cpp, the plan with its
nodes and ports, and how each instance is started (its arguments, threads, memory and seed). Not held to: addresses,
what else runs on the nodes as long as the plan fits, and the versions of Ansible and Python on the controller.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import fleet
from fleet.artifacts.models import resolve
from fleet.artifacts.releases import WORKLOAD, stage, staged
from fleet.base.differences import change_text, differences
from fleet.base.errors import ModelError, ReleaseError, ReplayRefused
from fleet.base.files import write_text
from fleet.intake.saved_plan import broken
from fleet.launch.specs import Launch, instance_hosts, launched_as
from fleet.record.manifest import canonical_sha256
from fleet.record.run_folder import MANIFEST, Run
from fleet.record.signing import Keys, verify
from placement import Experiment, Node, Plan, load_experiment
from placement.solver.exact import TIME_LIMIT_S

# What a manifest must say for its run to be repeated; dotted.
NEEDED = (
    *("experiment", "experiment_file", "plan_sha256", "pins", "memory", "instances"),
    *(
        "versions.jarfleet",
        "code.hash",
        "code.source",
        "code.commit",
        "code.command",
        "llama_cpp",
        "llama_cpp_builds",
        "models",
    ),
)


def recorded(checked: Mapping[str, Any], hosts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """For `build_manifest`: what a run is repeated by. `hosts` is what `instance_hosts` gave."""

    def part(whole: Mapping[str, Any], *keys: str) -> dict[str, Any]:
        return {key: whole[key] for key in keys}

    path = Path(checked["path"])
    specs = [host["instance_spec"] for host in hosts]
    return {
        "experiment": path.read_text(encoding="utf-8"),
        "experiment_file": path.name,
        "code": {**part(checked["release"], "hash", "source", "commit"), "command": list(checked["command"])},
        "models": {id: part(model, "sha256", "name", "origin") for id, model in checked["models"].items()},
        "memory": checked["memory"],
        "pins": checked["pins"],
        "instances": {spec["id"]: launched_as(spec) for spec in specs},
        "replay_of": checked["replay"].get("run_id"),
    }


def prepare(run: Run, keys: Keys, cache: Path, workload: Path, *, check: bool = False) -> dict[str, Any]:
    """What `experiment` finds out of what a user wrote, taken from a run's record instead: its signature is verified,
    the experiment written to `<cache>/experiments/<sha256>/`, release and models are found or made again.

    `replay` in it holds what `hold` compares, and the differences that show without a node. check: stage and download
    nothing. Raises SigningError, ReplayRefused for a record that is incomplete or was changed, BadInput.
    """
    manifest, signer = verify(run, keys)
    plan = run.plan
    if faults := [*_missing(manifest)] or [*_changed(manifest, plan)]:
        raise ReplayRefused(run.run_id, faults)
    path = _experiment(manifest, cache)
    experiment = load_experiment(path)
    # In the file's order, which plan.json does not keep: of nodes that share a build, the first builds it.
    order = [one.id for one in experiment.instances]
    plan = {**plan, **{key: {id: plan[key][id] for id in order} for key in ("assignments", "instances", "ports")}}
    plan["ports"] = {id: dict(sorted(ports.items(), key=itemgetter(1))) for id, ports in plan["ports"].items()}
    found: list[str] = []
    release = _release(manifest["code"], cache, workload, check, found)
    models = {id: _model(id, model, cache, check, found) for id, model in manifest["models"].items()}
    return {
        "name": experiment.name,
        "path": str(path),
        "reference": str(path),
        "saved": {},
        "strategy": plan["strategy"],
        "time_limit_s": TIME_LIMIT_S,
        "seed": plan["seed"],
        "repeat": (plan["counterbalance"] or {}).get("repeat"),
        "why": [],
        "pins": manifest["pins"],
        "command": manifest["code"]["command"],
        "release": release,
        "models": models,
        "memory": manifest["memory"],
        "table": f"replay of {run.run_id}, signed by {signer}",
        "notes": [],
        "warnings": _versions(manifest),
        "replay": {
            "run_id": run.run_id,
            "plan": plan,
            "differences": found,
            **{key: manifest[key] for key in ("llama_cpp", "llama_cpp_builds", "instances")},
        },
    }


def hold(
    checked: Mapping[str, Any],
    experiment: Experiment,
    nodes: Sequence[Node],
    port_range: tuple[int, int],
    hostvars: Mapping[str, Mapping[str, Any]],
    states: Mapping[str, Mapping[str, Any] | None],
) -> Plan:
    """The recorded plan, if all is as it was. `checked` is what prepare() gave, `experiment` has its sizes; of hostvars
    `llama_cpp_built` is what the node's builder says of the build that it would get.

    Raises ReplayRefused with everything that is not as it was.
    """
    replay = checked["replay"]
    plan = Plan.from_json(replay["plan"])
    lines = [
        *replay["differences"],
        *_builds(replay, hostvars, states),
        *broken(plan, experiment, nodes, {}, port_range),
        *_starts(checked, plan, experiment, nodes, hostvars, states),
    ]
    if lines:
        raise ReplayRefused(replay["run_id"], lines)
    return plan


def _missing(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What the manifest does not say, a line each."""
    for dotted in NEEDED:
        value: Any = manifest
        for key in dotted.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            yield f"{MANIFEST}: {dotted} is missing: the run was made by an older Jarfleet; run the experiment anew"
    nodes = [one["node"] for one in (manifest.get("instances") or {}).values()]
    for node in dict.fromkeys(nodes):
        if node not in (manifest.get("llama_cpp") or {}):
            yield f"{MANIFEST}: llama_cpp.{node} is missing: the run was never launched; run the experiment anew"


def _versions(manifest: Mapping[str, Any]) -> list[str]:
    """A warning where another Jarfleet made the run: units and sandbox are those of this one."""
    made, here = manifest["versions"]["jarfleet"], fleet.__version__
    return [] if made == here else [f"the run was made by Jarfleet {made}, this is {here}: its units may differ"]


def _changed(manifest: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[str]:
    """What beside the manifest is not what it says, a line each."""
    if canonical_sha256(plan) != manifest["plan_sha256"]:
        where = plan.get("assignments")
        now = where if isinstance(where, Mapping) else {}
        before = {id: one["node"] for id, one in manifest["instances"].items()}
        yield "; ".join(
            ["plan.json: was changed since the run", *(change_text(*pair) for pair in differences(before, now))]
        )


def _experiment(manifest: Mapping[str, Any], cache: Path) -> Path:
    """The experiment's text as a file under its own name, in a folder of its hash."""
    text: str = manifest["experiment"]
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = cache / "experiments" / digest / Path(manifest["experiment_file"]).name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def _release(code: Mapping[str, Any], cache: Path, workload: Path, check: bool, found: list[str]) -> dict[str, str]:
    """The release of that hash: the one that is kept, or staged anew from where it came from."""
    path = None
    try:
        path = staged(cache, code["hash"])
        if path is None:
            given = (None, None) if code["source"] == WORKLOAD else (code["source"], code["commit"] or None)
            now = stage(cache, workload, *given, check=True)
            if now.hash == code["hash"]:
                path = stage(cache, workload, *given, check=check).path
            else:
                kept = f"it is not kept in {cache / 'releases'} any more, and the code has changed since"
                found.append(f"{change_text('code: hash', code['hash'], now.hash)}; {kept}")
    except ReleaseError as error:
        found.append(f"code: {code['hash']} cannot be had: {error}")
    return {**{key: code[key] for key in ("hash", "source", "commit")}, "src": str(path or "")}


def _model(id: str, model: Mapping[str, Any], cache: Path, check: bool, found: list[str]) -> dict[str, Any]:
    """The model of that sha256: from the cache, or from where it came from."""
    wanted, kept = model["sha256"], cache / "models" / f"{model['sha256']}.gguf"
    origin = {"path": str(kept)} if kept.is_file() else dict(model["origin"])
    path = ""
    try:
        # A file is asked for what it is, so that the difference can be told; an address cannot give anything else.
        now = resolve({**origin, "sha256": wanted} if "url" in origin else origin, cache, check=check)
        path = str(now.path)
        if now.sha256 != wanted:
            found.append(f"{change_text(f'model of {id}: sha256', wanted, now.sha256)} ({path})")
    except ModelError as error:
        found.append(f"model of {id}: {wanted[:12]}... cannot be had: {error}")
    return {**model, "src": path}


def _builds(
    replay: Mapping[str, Any],
    hostvars: Mapping[str, Mapping[str, Any]],
    states: Mapping[str, Mapping[str, Any] | None],
) -> Iterator[str]:
    """Nodes that would get another llama.cpp, with what decides it. Of a node that does not answer the plan tells."""
    for node, key in replay["llama_cpp"].items():
        if not states.get(node):
            continue
        now = hostvars[node].get("llama_cpp_built") or {}
        if not now.get("key"):
            problem = str(now.get("msg", "its builder was not asked")).strip()
            yield f"llama.cpp of {node}: which build it would get is not known: {problem}"
        elif now["key"] != key:
            pairs = [*differences(replay["llama_cpp_builds"].get(key, {}), now["decides"])]
            parts = [change_text(*pair) for pair in [("build", key, now["key"]), *pairs]]
            yield f"llama.cpp of {node}: {'; '.join(parts)}"


def _starts(
    checked: Mapping[str, Any],
    plan: Plan,
    experiment: Experiment,
    nodes: Sequence[Node],
    hostvars: Mapping[str, Mapping[str, Any]],
    states: Mapping[str, Mapping[str, Any] | None],
) -> Iterator[str]:
    """Instances that would be started in another way than they were."""
    if not set(plan.assignments.values()) <= {node.name for node in nodes}:
        return  # which the plan tells
    launch = Launch.of(checked["replay"]["run_id"], experiment, plan, checked, hostvars)
    for entry in instance_hosts(launch, nodes, hostvars, states):
        spec = entry["instance_spec"]
        if states.get(spec["node"]):
            before, after = checked["replay"]["instances"].get(spec["id"], {}), launched_as(spec)
            yield from (change_text(f"{spec['id']}: {key}", *pair) for key, *pair in differences(before, after))


def builds(hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """For the manifest: the build of each node that has one, and what decides each build."""
    built = {
        name: made
        for name, variables in hostvars.items()
        if (made := variables.get("llama_cpp_built")) and made.get("key")
    }
    return {
        "llama_cpp": {name: made["key"] for name, made in built.items()},
        "llama_cpp_builds": {made["key"]: json.loads(json.dumps(made["decides"])) for made in built.values()},
    }
