"""Settings given on the command line that replace those of the experiment file: `-e '{workload: {rounds: 3}}'`.

The experiment's text becomes what it would be had its file said so: that text is checked, planned, recorded, repeated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from contract.json_records import shown
from placement import BadInput, Fault
from placement.adapters.experiment import parse_document
from placement.adapters.hostvars import plain


def overrides_of(given: Any) -> dict[str, Any]:
    """Return the workload's settings that were given; {} for none. Raise BadInput if they are no mapping."""
    if given in ("", None):
        return {}
    values = plain(given)
    if not isinstance(values, dict):
        problem = f"{shown(given)} is not a mapping; write -e '{{workload: {{rounds: 3}}}}'"
        raise BadInput([Fault("workload", "", problem)])
    return values


def overridden(text: str, path: Path, workload: Mapping[str, Any]) -> str:
    """Return the text of an experiment file with these settings of its workload. Raise BadInput if it is unreadable."""
    raw, twice, values = parse_document(text, path)
    if not workload or twice or values or not isinstance(raw, dict) or not isinstance(raw.get("workload", {}), dict):
        return text  # what is wrong with it is reported as it stands in the file
    document = {**raw, "workload": _merged(raw.get("workload", {}), workload)}
    if path.suffix == ".json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    head = f"# {path.name}, with settings of the command line: workload: {json.dumps(workload, ensure_ascii=False)}\n"
    return head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _merged(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with those given: a mapping key by key, anything else as a whole."""
    both = {key: (before[key], value) for key, value in given.items() if key in before}
    inner = {
        key: _merged(old, new)
        for key, (old, new) in both.items()
        if isinstance(old, Mapping) and isinstance(new, Mapping)
    }
    return {**before, **given, **inner}
