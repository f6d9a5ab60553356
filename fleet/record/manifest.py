"""`manifest.json`: what was run, enough to explain and to repeat it."""

from __future__ import annotations

import hashlib
import json
import platform
import sqlite3
from collections.abc import Mapping
from typing import Any

import fleet


def canonical_sha256(value: Any) -> str:
    """The sha256 of a JSON value, whatever the order of its keys: 64 hex digits. TypeError when it is not JSON."""
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
    """What was run, enough to explain and to repeat it.

    experiment: the raw text of its file (or its content, where there is no file); code: {"hash", "source", "commit",
    "command"}; models: {instance: {"sha256", "name", "origin"}}; llama_cpp: {node: build key}; versions: what to add to
    jarfleet's, Python's, SQLite's and the platform's; design: the seed and the repeat of an experimental design; more:
    what else a replay needs (`fleet.replay.NEEDED`). Inventory and plan enter by their hash: the plan lies beside the
    manifest.
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
