"""A table of the memory that each instance without a declared size gets, derived from its model, part by part."""

from __future__ import annotations

from collections.abc import Mapping

from fleet.base.text_table import table
from placement import Experiment
from placement.adapters.gguf_memory import GB, Estimate, figure
from placement.infeasibility import grouped, listed


def estimate_table(experiment: Experiment, needs: Mapping[str, Estimate]) -> str:
    """Return a table of the estimates of all instances without `ram_gb`, by part; "" if there are none.

    Instances with the same figures share a line.
    """
    chosen = {one.id: needs[one.id] for one in experiment.instances if one.ram_gb is None and one.id in needs}
    figures = {
        id: (f"{estimate.ram_gb}", *(figure(size / GB) for size in estimate.parts.values()))
        for id, estimate in chosen.items()
    }
    rows = [(listed(ids), *shown) for shown, ids in grouped((shown, id) for id, shown in figures.items())]
    parts = [name.replace("_", " ") for estimate in [*chosen.values()][:1] for name in estimate.parts]
    return table(("instance", "ram_gb, by its model:", *parts), rows) if rows else ""
