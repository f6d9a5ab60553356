"""What has changed on a node since the last look at a run's instances: events for the record, lines for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from contract.events import Died, Event, InstanceFault, NodeStatusChanged, StatusChanged
from contract.node_state import InstanceState, NodeState
from contract.statuses import HEALTHY


class RunOnNode:
    """A run's instances on one node, as last seen."""

    def __init__(self, node: str, epochs: Mapping[str, int] | None = None) -> None:
        """epochs: {instance: its epoch} of those that were resumed; what is left of an earlier one is passed over."""
        self.node, self.epochs = node, epochs or {}
        self.instances: dict[str, InstanceState] = {}
        self._status = HEALTHY

    @property
    def alive(self) -> bool:
        """Whether any instance of the run is alive on this node."""
        return any(one.alive for one in self.instances.values())

    @property
    def statuses(self) -> Mapping[str, str]:
        """{instance: status}."""
        return {id: one.status for id, one in self.instances.items()}

    def look(self, state: NodeState) -> tuple[list[Event], list[str]]:
        """Return what has changed since the last look: events for the record, and lines that are only displayed."""
        events: list[Event] = []
        lines: list[str] = []
        if state.status != self._status:
            self._status = state.status
            events.append(NodeStatusChanged(self.node, state.status, state.reasons))
        instances = [one for one in state.instances if one.epoch >= self.epochs.get(one.id, 1)]
        for one in instances:
            events += self._events(one, self.instances.get(one.id))
            lines += _progress(one, self.instances.get(one.id))
        self.instances = {one.id: one for one in instances}
        return events, lines

    def _events(self, now: InstanceState, before: InstanceState | None) -> Iterator[Event]:
        for unit, count in now.deaths.items():
            if count > (before.deaths.get(unit, 0) if before else 0):
                yield Died(now.id, unit, count, self.node)
        for fault in now.faults:
            if before is None or fault not in before.faults:
                yield InstanceFault(now.id, fault, self.node)
        if before is None or now.status != before.status:
            yield StatusChanged(now.id, now.status, self.node)


def words(event: Event) -> str:
    """Return an event as a line for a person: `status a RUNNING`, `died a llama 2`."""
    fields = {key: value for key, value in event.to_json().items() if key != "node"}
    said = (", ".join(value) if isinstance(value, list) else str(value) for value in fields.values())
    return " ".join([event.kind.replace("_", " "), *said])


def _progress(now: InstanceState, before: InstanceState | None) -> Sequence[str]:
    """Return a line with the round that an instance has reached, if only that changed."""
    if before is None or now.status != before.status or now.progress.round == before.progress.round:
        return []
    progress = now.progress
    return [f"{now.id} round {progress.round} of {progress.rounds}, cycle {progress.cycle}"]
