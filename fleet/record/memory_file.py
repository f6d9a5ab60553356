"""`memory.json` in the run's folder: the memory that instances were predicted to need, and what nodes measured.

    {instance: {"ram_gb", "declared",                   its size, and whether the experiment or the model gave it
                "predicted_gb", "parts_gb", "offloaded_gb",   from the model (gguf_memory); null: not known
                "resident_gb", "charged_gb",            measured; null: not measurable
                "ratio"}}                               resident / predicted

All values are in GB = 2**30 bytes, the highest over all lives of the instance. `resident_gb` is to be compared with the
prediction: it is the peak of llama-server's resident pages (VmHWM), including those of the mapped model file no matter
which process read them first, plus the peak of the workload's control group. `charged_gb` is the peak that the kernel
counted against the instance's limit: without pages of files that another process had read before, and with those of
files that this instance read or wrote. A GPU's own memory is in neither.
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
    """Write what is known before the run. `experiment` has its sizes, `memory` is {id: Estimate.to_json()}."""
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
