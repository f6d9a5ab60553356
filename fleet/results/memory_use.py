"""The memory that a run's instances used, from the fetched exit logs: the measured part of `memory.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from contract import collected, names
from contract.exits import read_exits
from fleet.base.files import write_json
from fleet.record.memory_file import FILE
from fleet.record.run_folder import Run
from placement.adapters.gguf_memory import GB


def measure(run: Run, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Write what the fetched exit logs state about these instances to the file; return the file's entries for them."""
    path = run.path / FILE
    before: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    after = dict(before)
    for id in ids:
        known = before.get(id, {"predicted_gb": None})
        found = measured(run.path / collected.EXIT_LOG.name(id))
        resident, predicted = found["resident_gb"], known["predicted_gb"]
        after[id] = {**known, **found, "ratio": round(resident / predicted, 3) if resident and predicted else None}
    if after != before:
        write_json(path, after)
    return {id: after[id] for id in ids}


def measured(exit_log: Path) -> dict[str, float | None]:
    """Return the highest values in an instance's exit log: {"resident_gb", "charged_gb"}; None if never measured."""
    resident, charged = 0, 0
    for one in read_exits(exit_log).exits:
        charged = max(charged, one.memory.slice_peak or 0)
        if one.unit == names.WORKLOAD and one.memory.others_resident_peak:
            resident = max(resident, one.memory.others_resident_peak + (one.memory.unit_peak or 0))
    return {
        "resident_gb": round(resident / GB, 4) if resident else None,
        "charged_gb": round(charged / GB, 4) if charged else None,
    }
