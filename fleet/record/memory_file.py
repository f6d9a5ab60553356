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

from collections.abc import Mapping
from typing import Any

from fleet.base.files import write_json
from fleet.record.run_folder import Run
from placement import Experiment

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
