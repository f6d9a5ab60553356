"""What a run's instances were predicted to need, and what their nodes measured: `memory.json` in the run's folder.

    {instance: {"ram_gb", "declared",                   its size, and whether the experiment gave it or the model did
                "predicted_gb", "parts_gb", "offloaded_gb",   by the model (gguf_memory); null: not known
                "resident_gb", "charged_gb",            measured; null: nobody could
                "ratio"}}                               resident / predicted

All in GB = 2**30 bytes, the highest over all lives of the instance. `resident_gb` is what compares with the prediction:
the peak of llama-server's resident pages (VmHWM), those of the mapped model file among them whoever had read them
first, and the peak of the workload's control group. `charged_gb` is the peak that the kernel counted against the
instance's limit: without pages of files that another process had read before, and with those of files that this one has
read or written. Memory that is a GPU's own is in neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fleet.base.files import write_json
from fleet.record.run_folder import Run
from placement import Experiment
from placement.adapters.gguf_memory import GB
from workload import ledger

FILE = "memory.json"
MEASURED = ("resident_gb", "charged_gb", "ratio")


def predict(run: Run, experiment: Experiment, memory: Mapping[str, Mapping[str, Any]]) -> None:
    """Write down what is known before the run. `experiment` has its sizes, `memory` is Estimate.to_json() by id."""
    declared = {one["id"] for one in experiment.raw["instances"] if "ram_gb" in one}
    write_json(
        run.path / FILE,
        {
            one.id: {
                "ram_gb": one.ram_gb,
                "declared": one.id in declared,
                **{key: memory.get(one.id, {}).get(key) for key in ("predicted_gb", "parts_gb", "offloaded_gb")},
                **dict.fromkeys(MEASURED),
            }
            for one in experiment.instances
        },
    )


def measure(run: Run, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Put what the fetched exits tell of these instances into the file, and return all that it then says of them."""
    path = run.path / FILE
    before: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    after = dict(before)
    for id in ids:
        known = before.get(id, {"predicted_gb": None})
        found = measured(run.path / "logs" / f"{id}.exits.jsonl")
        resident, predicted = found["resident_gb"], known["predicted_gb"]
        after[id] = {**known, **found, "ratio": round(resident / predicted, 3) if resident and predicted else None}
    if after != before:
        write_json(path, after)
    return {id: after[id] for id in ids}


def measured(exits: Path) -> dict[str, float | None]:
    """The highest figures in an instance's exits: {"resident_gb", "charged_gb"}; null where none was taken."""
    resident, charged = 0, 0
    for end in ledger.read(exits):
        memory = end.get("memory") or {}  # of a run older than these figures
        charged = max(charged, memory.get("slice_peak") or 0)
        if end["unit"] == "workload" and memory.get("others_resident_peak"):
            resident = max(resident, memory["others_resident_peak"] + (memory.get("unit_peak") or 0))
    return {
        "resident_gb": round(resident / GB, 4) if resident else None,
        "charged_gb": round(charged / GB, 4) if charged else None,
    }
