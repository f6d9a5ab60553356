"""Decide: desired state, observed state and the time in, actions out. Pure: no clock, no network, no disk.

The rule under all others: an instance is started in a new epoch only when no earlier one can act any more, because its
node says that it has ended, or because everything that ever let it act has run out (`Wanted.safe_at`). A node that does
not answer says nothing, and neither does one that answers and does not have the instance: a start may be on its way.

Of two controllers only one may start anything. While some node obeys another one, or may, nothing is started and what
has stopped stays so; and who does not have most of the nodes lets nothing go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from fleet.control.model import (
    NEVER,
    Action,
    Adopt,
    Desired,
    Finish,
    Grant,
    Key,
    Observed,
    Renew,
    Report,
    Seen,
    Settings,
    Start,
    Stop,
    Wait,
    Wanted,
)

# Chooses the node of an instance: its name, or None and why there is none. Given the nodes that it may choose among.
Choose = Callable[[Key, list[str]], tuple[str | None, str]]


def reconcile(desired: Desired, observed: Observed, settings: Settings, choose: Choose, now: float) -> list[Action]:
    """Return what to do now, in the order in which to do it."""
    cluster = _Cluster(desired, observed, settings, choose, now)
    return [action for key in desired.instances for action in cluster.about(key)]


def recorded(desired: Desired, actions: Iterable[Action], observed: Observed, settings: Settings) -> Desired:
    """Return the desired state once these actions are decided: it must be on the disk before any of them is done."""
    instances = dict(desired.instances)
    for action in actions:
        match action:
            case Grant():
                wanted = instances[action.key]
                # Counted from when the answer arrived that the lease is counted from: it was given before.
                ends = observed.reports[action.node].at + settings.wait
                before = 0.0 if wanted.safe_at == NEVER else wanted.safe_at
                instances[action.key] = replace(
                    wanted, epoch=action.epoch, node=action.node, moving=False, safe_at=max(before, ends)
                )
            case Adopt():
                ends = observed.reports[action.node].at + settings.wait
                wanted = replace(instances[action.key], epoch=action.epoch, node=action.node, moving=False, outcome="")
                instances[action.key] = replace(wanted, safe_at=ends)
            case Stop(moving=True):
                instances[action.key] = replace(instances[action.key], moving=True)
            case Finish():
                instances[action.key] = replace(instances[action.key], outcome=action.outcome)
    return replace(desired, instances=instances)


def taken_up(desired: Desired, settings: Settings, now: float) -> Desired:
    """Return the desired state for a controller that starts: its clock says nothing of what was sent before."""
    instances = {
        key: replace(wanted, safe_at=now + settings.wait) if wanted.movable else wanted
        for key, wanted in desired.instances.items()
    }
    return replace(desired, instances=instances)


def admitted(desired: Desired, node: str, settings: Settings, now: float) -> Desired:
    """Return the desired state once a stranger answers: until now the other controller could let act what is there."""
    instances = {
        key: replace(wanted, safe_at=max(now + settings.wait, wanted.safe_at)) if wanted.node == node else wanted
        for key, wanted in desired.instances.items()
    }
    return replace(desired, instances=instances, strangers=desired.strangers - {node})


class _Cluster:
    """Everything that a decision may look at."""

    def __init__(self, desired: Desired, observed: Observed, settings: Settings, choose: Choose, now: float) -> None:
        self.desired, self.observed, self.settings, self.now = desired, observed, settings, now
        self.choose = choose
        silent = [node for node in observed.nodes if self._is_lost(node)]
        self.own_trouble = 100 * len(silent) > settings.most_lost_percent * len(observed.nodes)
        self.elsewhere = desired.strangers | observed.taken

    def about(self, key: Key) -> Iterator[Action]:
        """Yield what is to be done about one instance."""
        wanted = self.desired.instances[key]
        yield from self._earlier_epochs(key, wanted)
        if newer := self._newer_epoch(key, wanted):
            yield newer
            return
        if wanted.outcome:
            return
        seen = self._seen(key, wanted)
        if wanted.stopped:
            yield from self._stop(key, wanted, seen)
        elif seen and seen.outcome and self._is_final(wanted, seen):
            yield Finish(key, seen.outcome)
        elif seen and not seen.outcome:
            yield from self._keep(key, wanted, seen)
        elif wanted.movable:
            yield from self._replace(key, wanted, ended=bool(seen))

    # the rules

    def _earlier_epochs(self, key: Key, wanted: Wanted) -> Iterator[Action]:
        """Stop what is left of an instance that went on elsewhere: its node was away."""
        for node, report in self.observed.reports.items():
            seen = report.instances.get(key)
            if seen and not seen.outcome and seen.epoch < wanted.epoch and self._is_heard(report):
                yield Stop(node, key, seen.epoch)

    def _newer_epoch(self, key: Key, wanted: Wanted) -> Adopt | None:
        """Take up what another controller has started."""
        for node, report in self.observed.reports.items():
            seen = report.instances.get(key)
            if seen and seen.epoch > wanted.epoch and self._is_heard(report):
                return Adopt(node, key, seen.epoch)
        return None

    def _stop(self, key: Key, wanted: Wanted, seen: Seen | None) -> Iterator[Action]:
        """Stop what a person wants stopped; where that cannot be known, wait, and let its lease run out."""
        if seen and seen.outcome:
            yield Finish(key, seen.outcome)
        elif seen:
            yield Stop(wanted.node, key, wanted.epoch)
        elif self.now >= wanted.safe_at and wanted.node not in self.elsewhere:
            yield Finish(key, "STOPPED")
        else:
            yield Wait(key, f"is to be stopped on {wanted.node}, which does not answer")

    def _keep(self, key: Key, wanted: Wanted, seen: Seen) -> Iterator[Action]:
        """Renew the lease of what runs; stop it to move it, when its node is to be empty: it acts until it is."""
        report, settings = self.observed.reports[wanted.node], self.settings
        if wanted.movable:
            left = -1.0 if seen.until is None else seen.until - report.clock
            if self.elsewhere and (left <= 0 or 2 * len(self.elsewhere) >= len(self.observed.nodes)):
                yield Wait(key, self._obey_another())
                return
            if left < settings.lease - settings.interval / 2:
                yield Renew(wanted.node, key, wanted.epoch, report.boot, report.clock + settings.lease)
        if self.elsewhere:
            return
        to_empty = wanted.movable and wanted.node in self.desired.drained
        if wanted.moving or (to_empty and self._target(key)[0]):
            yield Stop(wanted.node, key, wanted.epoch, moving=True)

    def _replace(self, key: Key, wanted: Wanted, ended: bool) -> Iterator[Action]:
        """Start an instance anew that does not run where it should, once nothing of it can act any more."""
        if not ended and self.now < wanted.safe_at:
            yield Wait(key, f"may act on {wanted.node} for {wanted.safe_at - self.now:.0f} s more")
            return
        if self.elsewhere:
            yield Wait(key, self._obey_another())
            return
        if not ended and self._is_lost(wanted.node) and self.own_trouble:
            yield Wait(key, "most nodes are silent, which is taken for the controller's own trouble")
            return
        node, reason = self._target(key)
        if node is None:
            yield Wait(key, reason)
            return
        report = self.observed.reports[node]
        yield Start(node, key, wanted.epoch + 1, report.boot, report.clock + self.settings.lease)

    # what the rules ask

    def _obey_another(self) -> str:
        taken, strangers = (", ".join(sorted(nodes)) for nodes in (self.observed.taken, self.desired.strangers))
        if taken:
            return f"another controller has taken over {taken}; control.yml -e takeover=true takes them back"
        return (
            f"{strangers} may still obey the controller that this one took over from; once its loop is known to have"
            " ended there: control.yml -e takeover=true -e gone=<node>"
        )

    def _is_final(self, wanted: Wanted, seen: Seen) -> bool:
        """Whether an end is one: not that of what was stopped to be moved, nor of what had no lease."""
        return seen.outcome != "FENCED" and (not wanted.moving or seen.outcome == "COMPLETED")

    def _target(self, key: Key) -> tuple[str | None, str]:
        """Return the node where an instance is to go on, or None and why there is none."""
        fit = [
            node
            for node, report in self.observed.reports.items()
            if report.fit and self._is_heard(report) and node not in self.desired.drained
        ]
        return self.choose(key, fit)

    def _seen(self, key: Key, wanted: Wanted) -> Seen | None:
        """Return the instance as its node reports it in its newest epoch; an end counts however old the report is."""
        report = self.observed.reports.get(wanted.node)
        seen = report.instances.get(key) if report else None
        if report is None or seen is None or seen.epoch != wanted.epoch:
            return None
        return seen if seen.outcome or self._is_heard(report) else None

    def _is_heard(self, report: Report) -> bool:
        return self.now - report.at < self.settings.lost_after

    def _is_lost(self, node: str) -> bool:
        report = self.observed.reports.get(node)
        return report is None or not self._is_heard(report)
