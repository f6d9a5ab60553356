"""What a run's record says of how it was launched: written at its launch, and read to launch it again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import fleet
from fleet.artifacts.models import resolve
from fleet.artifacts.packages import Packages
from fleet.artifacts.releases import WORKLOAD, stage, staged
from fleet.base.differences import change_text, differences
from fleet.base.errors import ModelError, ReleaseError, ReplayRejected, Unsigned
from fleet.base.files import write_text
from fleet.intake.reader import Places
from fleet.intake.request import ModelRef, ReleaseRef, Request
from fleet.launch.specs import Entry, launched_as
from fleet.record.manifest import canonical_sha256
from fleet.record.run_folder import MANIFEST, Run
from fleet.record.signing import Keys, verify
from placement import parse_experiment
from placement.solver.exact import TIME_LIMIT_S

# The keys that a manifest must have for its run to be repeated, dotted.
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


@dataclass(frozen=True)
class Recorded:
    """A run as it was launched. differences: what cannot be had any more as it was."""

    request: Request
    manifest: Mapping[str, Any]
    plan: Mapping[str, Any]
    signer: str
    differences: tuple[str, ...]
    warnings: tuple[str, ...]


def recorded(request: Request, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the manifest keys that a replay needs; `entries` is the result of `fleet.launch.specs.entries`."""
    release = request.release
    return {
        "experiment": request.text,
        "experiment_file": Path(request.path).name,
        "code": {
            "hash": release.hash,
            "source": release.source,
            "commit": release.commit,
            "command": list(request.command),
        },
        "models": {
            id: {"sha256": model.sha256, "name": model.name, "origin": dict(model.origin)}
            for id, model in request.models.items()
        },
        "packages": {
            node: {"digest": request.packages[node].digest, "wanted": list(request.packages[node].wanted)}
            for node in dict.fromkeys(entry.launch_spec.description.node for entry in entries)
            if node in request.packages
        },
        "memory": request.memory,
        "pins": dict(request.pins),
        "overrides": dict(request.overrides),
        "instances": {entry.launch_spec.id: launched_as(entry.launch_spec) for entry in entries},
        "replay_of": request.replay.run_id if request.replay else None,
    }


def read(run: Run, keys: Keys, places: Places, *, signed: bool = True, check: bool = False) -> Recorded:
    """Return what a run's record holds, with its release and models found or made again.

    signed: its manifest must be. check: stage and download nothing. Raise SigningError, BadInput, or ReplayRejected for
    a record that is incomplete or was changed.
    """
    try:
        manifest, signer = verify(run, keys)
    except Unsigned:
        if signed:
            raise
        manifest, signer = run.manifest, "nobody"
    plan = run.plan
    if faults := [*_missing(manifest)] or [*_changed(manifest, plan)]:
        raise ReplayRejected(run.run_id, faults)
    path = _experiment_file(manifest, places.cache)
    experiment = parse_experiment(manifest["experiment"], path)
    # In the file's order, which plan.json does not keep: of several nodes that share a build, the first one builds it.
    order = [one.id for one in experiment.instances]
    plan = {**plan, **{key: {id: plan[key][id] for id in order} for key in ("assignments", "instances", "ports")}}
    plan["ports"] = {id: dict(sorted(ports.items(), key=itemgetter(1))) for id, ports in plan["ports"].items()}
    found: list[str] = []
    release = _release(manifest["code"], places, check, found)
    models = {id: _model(id, model, places.cache, check, found) for id, model in manifest["models"].items()}
    request = Request(
        name=experiment.name,
        path=str(path),
        text=manifest["experiment"],
        release=release,
        reference=str(path),
        pins=manifest["pins"],
        strategy=plan["strategy"],
        time_limit_s=TIME_LIMIT_S,
        seed=plan["seed"],
        repeat=(plan["counterbalance"] or {}).get("repeat"),
        command=tuple(manifest["code"]["command"]),
        models=models,
        memory=manifest["memory"],
        packages={
            node: Packages(one["digest"], "", tuple(one["wanted"]))
            for node, one in manifest.get("packages", {}).items()
        },
    )
    return Recorded(request, manifest, plan, signer, tuple(found), tuple(_versions(manifest)))


def _missing(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the manifest lacks, one line each."""
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
    """Return a warning if another version of Jarfleet made the run: units and sandbox are those of this version."""
    made, here = manifest["versions"]["jarfleet"], fleet.__version__
    return [] if made == here else [f"the run was made by Jarfleet {made}, this is {here}: its units may differ"]


def _changed(manifest: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the plan beside the manifest differs from what the manifest states, one line each."""
    if canonical_sha256(plan) != manifest["plan_sha256"]:
        where = plan.get("assignments")
        now = where if isinstance(where, Mapping) else {}
        before = {id: one["node"] for id, one in manifest["instances"].items()}
        yield "; ".join(
            ["plan.json: was changed since the run", *(change_text(*pair) for pair in differences(before, now))]
        )


def _experiment_file(manifest: Mapping[str, Any], cache: Path) -> Path:
    """Write the experiment's text to a file under its own name, in a folder named by its hash, for a person to read."""
    text: str = manifest["experiment"]
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = cache / "experiments" / digest / Path(manifest["experiment_file"]).name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def _release(code: Mapping[str, Any], places: Places, check: bool, found: list[str]) -> ReleaseRef:
    """Return the release of the recorded hash: the one in the cache, or staged anew from its source."""
    path = None
    try:
        path = staged(places.cache, code["hash"])
        if path is None:
            given = (None, None) if code["source"] == WORKLOAD else (code["source"], code["commit"] or None)
            now = stage(places.cache, places.packages, *given, check=True)
            if now.hash == code["hash"]:
                path = stage(places.cache, places.packages, *given, check=check).path
            else:
                kept = f"it is not kept in {places.cache / 'releases'} any more, and the code has changed since"
                found.append(f"{change_text('code: hash', code['hash'], now.hash)}; {kept}")
    except ReleaseError as error:
        found.append(f"code: {code['hash']} cannot be had: {error}")
    has_contract = path is None or not path.is_dir() or (path / "contract").is_dir()
    return ReleaseRef(code["hash"], str(path or ""), code["source"], code["commit"], has_contract)


def _model(id: str, model: Mapping[str, Any], cache: Path, check: bool, found: list[str]) -> ModelRef:
    """Return the model of the recorded sha256: from the cache, or from its origin."""
    wanted, kept = model["sha256"], cache / "models" / f"{model['sha256']}.gguf"
    origin = {"path": str(kept)} if kept.is_file() else dict(model["origin"])
    path, parts = "", tuple[str, ...]()
    try:
        # Resolve a file without its sha256, to be able to report a difference; others can only give the declared file.
        now = resolve(origin if "path" in origin else {**origin, "sha256": wanted}, cache, check=check)
        path, parts = str(now.path), now.parts
        if now.sha256 != wanted:
            found.append(f"{change_text(f'model of {id}: sha256', wanted, now.sha256)} ({path})")
    except ModelError as error:
        # A token in the address is not recorded, so the address may not give the file any more.
        mend = f"; or put the file there as {kept}" if "path" not in origin else ""
        found.append(f"model of {id}: {wanted[:12]}... cannot be had: {error}{mend}")
    return ModelRef(wanted, path, model["name"], model["origin"], parts)
