"""`manifest.json`: what was run, in enough detail to explain and repeat it."""

from __future__ import annotations

import hashlib
import json
import platform
import sqlite3
from collections.abc import Mapping
from typing import Any

import fleet


def canonical_sha256(value: Any) -> str:
    """Return the sha256 of a JSON value, independent of key order: 64 hex digits. Raise TypeError if it is not JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def build_manifest(
    *,
    experiment: str | Mapping[str, Any],
    code: Mapping[str, Any],
    models: Mapping[str, Any],
    llama_cpp: Mapping[str, str],
    inventory: Any,
    plan: Any,
    versions: Mapping[str, str] | None = None,
    design: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a manifest: what was run, in enough detail to explain and repeat it.

    experiment: the raw text of its file (or its content, if there is no file); code: {"hash", "source", "commit",
    "command"}; models: {instance: {"sha256", "name", "origin"}}; llama_cpp: {node: build key}; versions: what to add to
    the versions of jarfleet, Python, SQLite and the platform; design: the seed and the repeat of an experimental
    design; more: what else a replay needs (`fleet.launch.recorded.NEEDED`). Of inventory and plan only the hash is
    stored: the plan itself lies beside the manifest.
    """
    return {
        **more,
        "experiment": experiment,
        "experiment_sha256": (
            hashlib.sha256(experiment.encode()).hexdigest()
            if isinstance(experiment, str)
            else canonical_sha256(experiment)
        ),
        "code": code,
        "models": models,
        "llama_cpp": llama_cpp,
        "inventory_sha256": canonical_sha256(inventory),
        "plan_sha256": canonical_sha256(plan),
        "design": design or {},
        "versions": {
            "jarfleet": fleet.__version__,
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "platform": platform.platform(),
            **(versions or {}),
        },
    }
