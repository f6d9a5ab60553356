"""What memory each instance gets that declares none: by its model, shown part by part."""

from __future__ import annotations

from collections.abc import Mapping

from fleet.base.text_table import table
from placement import Experiment
from placement.adapters.gguf_memory import GB, Estimate, figure


def estimate_table(experiment: Experiment, needs: Mapping[str, Estimate]) -> str:
    """What each instance gets that declares no `ram_gb`, with the parts of it; empty when all do."""
    chosen = {one.id: needs[one.id] for one in experiment.instances if one.ram_gb is None and one.id in needs}
    rows = [
        (id, f"{estimate.ram_gb}", *(figure(size / GB) for size in estimate.parts.values()))
        for id, estimate in chosen.items()
    ]
    parts = [name.replace("_", " ") for estimate in [*chosen.values()][:1] for name in estimate.parts]
    return table(("instance", "ram_gb, by its model:", *parts), rows) if rows else ""
