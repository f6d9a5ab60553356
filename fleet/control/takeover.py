"""What a loop that takes over from another controller's finds on the nodes: the runs that were launched for that one.

They go on: their leases are renewed from now on. To move one takes its record, which is on the other controller, and
in part on the node that keeps a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.control.desired_store import DesiredStore
from fleet.control.model import Key
from fleet.observe.cluster import Cluster
from fleet.observe.search import newest_epochs
from fleet.record.record_copy import is_needed
from fleet.record.run_folder import Run, list_runs


@dataclass(frozen=True)
class TakenUp:
    """A run that is looked after from now on, or again. instances: {id: (node, epoch)}."""

    run_id: str
    instances: Mapping[str, tuple[str, int]]
    has_record: bool

    @property
    def places(self) -> dict[str, str]:
        """{instance: its node}."""
        return {id: node for id, (node, _) in self.instances.items()}

    def words(self, runs_dir: Path) -> str:
        """It, for a person."""
        where = ", ".join(f"{id} on {node}" for id, node in sorted(self.places.items()))
        copied = f"; to be moved it needs its record: copy that of the other controller over {runs_dir / self.run_id}"
        return f"{self.run_id} is looked after from now on: {where}{'' if self.has_record else copied}"


def without_record(cluster: Cluster, runs_dir: Path) -> list[str]:
    """Return the runs that act by leases on the nodes that answer, and have no record here."""
    leased = {one.run_id for _, one in newest_epochs(cluster) if one.leased and one.alive}
    return sorted(run_id for run_id in leased if is_needed(runs_dir, run_id))


def found_to_take_up(store: DesiredStore, cluster: Cluster, runs_dir: Path) -> list[TakenUp]:
    """Return what acts by leases on the nodes that answer, and this store does not have, or in an earlier epoch."""
    records = {run.run_id: run for run in list_runs(runs_dir)}
    known = store.read().instances
    newest: dict[str, dict[str, tuple[str, int]]] = {}
    due = set()
    for node, one in newest_epochs(cluster, records.values()):
        newest.setdefault(one.run_id, {})[one.id] = node, one.epoch
        wanted = known.get(Key(one.run_id, one.id))
        if one.leased and one.alive and (wanted is None or wanted.epoch < one.epoch):
            due.add(one.run_id)
    return [_taken_up(run_id, newest[run_id], records.get(run_id)) for run_id in sorted(due)]


def _taken_up(run_id: str, here: Mapping[str, tuple[str, int]], record: Run | None) -> TakenUp:
    """Return a run with its instances, those on nodes that do not answer included as far as its record tells."""
    if record is None or record.is_recovered:
        return TakenUp(run_id, here, has_record=False)
    epochs = record.epochs
    told = {id: (node, epochs.get(id, 1)) for id, node in record.places.items()}
    return TakenUp(run_id, {**told, **here}, has_record=True)
