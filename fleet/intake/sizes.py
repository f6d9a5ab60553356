"""A table of the memory that each instance without a declared size gets, derived from its model, part by part."""

from __future__ import annotations

from collections.abc import Mapping

from fleet.base.text_table import table
from placement import Experiment
from placement.adapters.gguf_memory import GB, Estimate, figure


def estimate_table(experiment: Experiment, needs: Mapping[str, Estimate]) -> str:
    """Return a table of the estimates of all instances without `ram_gb`, by part; "" if there are none."""
    chosen = {one.id: needs[one.id] for one in experiment.instances if one.ram_gb is None and one.id in needs}
    rows = [
        (id, f"{estimate.ram_gb}", *(figure(size / GB) for size in estimate.parts.values()))
        for id, estimate in chosen.items()
    ]
    parts = [name.replace("_", " ") for estimate in [*chosen.values()][:1] for name in estimate.parts]
    return table(("instance", "ram_gb, by its model:", *parts), rows) if rows else ""
