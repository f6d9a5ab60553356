"""Installs artifacts as root, where this node's rules allow it."""

from __future__ import annotations

from typing import Any, Mapping

from contract.calls import Install, Prepare

from . import artifacts, rules


def prepare(given: Mapping[str, Any]) -> None:
    """Make the folders that artifacts arrive in. Raises NodeError, OSError, ContractError."""
    asked = Prepare.from_json(given, "prepare")
    rules.check_place(rules.read(), asked.work_dir, asked.owner)
    artifacts.prepare(asked.work_dir, asked.owner)


def install(given: Mapping[str, Any]) -> None:
    """Verify what has arrived and rename it in. Raises NodeError, OSError, ContractError."""
    asked = Install.from_json(given, "install")
    local = rules.read()
    rules.check_place(local, asked.work_dir, asked.owner)
    items = artifacts.read(asked.items)
    for item in items:
        rules.check_artifact(local, item)
    artifacts.install([item for item in items if item.is_missing()], asked.work_dir, asked.owner)
    for item in items:
        if item.has_stale_link():
            artifacts.relink(item)
