"""Thousands of schedules of faults: nothing acts twice, all runs again in the end; and a fault in a rule is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from simulation import SETTINGS, WORST_CLOCK, Controller, Copy, Node, Violation, World

from fleet.control import reconcile as rules
from fleet.control.model import Desired, Key, Observed, Seen, Start

SCHEDULES = 10_000
MOVES_WHATEVER_IS_SILENT = replace(SETTINGS, most_lost_percent=100.0)  # so that no other rule stands in
PARTS = 20


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_nothing_acts_twice_and_all_that_can_runs_in_the_end(part: int) -> None:
    for seed in range(part, SCHEDULES, PARTS):
        World(seed).run()


def found(kind: type[World], settings: Any = SETTINGS) -> str:
    """The violation that the first schedules find; empty if they find none."""
    for seed in range(3000):
        try:
            kind(seed, settings).run()
        except Violation as violation:
            return str(violation)
    return ""


def test_a_lease_that_is_not_waited_for_is_found() -> None:
    assert "acts on" in found(World, replace(SETTINGS, clock_factor=0.4))


def test_clocks_that_are_trusted_to_be_right_are_found() -> None:
    """The factor is not caution alone: without it two act at once, when one clock is slow and the other fast."""

    class Here(World):
        def any_rate(self) -> float:
            return 1.0 + WORST_CLOCK * self.rng.choice((-1, 1))

    assert "acts on" in found(Here, replace(SETTINGS, clock_factor=1.0, stopping=0.0))


def test_an_epoch_that_is_not_checked_is_found() -> None:
    class Forgetful(Node):
        def is_new(self, action: Start, copy: Copy | None) -> bool:
            return True

    class Here(World):
        node_kind = Forgetful

    assert "has lost what it had done" in found(Here), "a start that comes twice begins the work anew"


def test_a_node_that_takes_late_renewals_is_found() -> None:
    class Lenient(Node):
        def refuses(self, action: Any, t: float) -> bool:
            return False

    class Here(World):
        node_kind = Lenient

    assert "acts on" in found(Here)


def test_a_lease_that_is_given_while_the_last_one_is_being_ended_is_found() -> None:
    """What is killed then counts as ended by itself, and nobody starts it again."""

    class Hurried(Node):
        def is_ending(self, key: Key, t: float) -> bool:
            if super().is_ending(key, t) and self.leases[key] <= self.clock(t):
                self.copies[key].outcome = "FAILED"
            return False

    class Here(World):
        node_kind = Hurried

    assert found(Here)


def test_a_controller_that_forgets_what_it_has_sent_is_found() -> None:
    class Careless(Controller):
        def begin(self, desired: Desired, now: float) -> Desired:
            instances = {key: replace(wanted, safe_at=now) for key, wanted in desired.instances.items()}
            return replace(desired, instances=instances)

    class Here(World):
        controller_kind = Careless

    assert "acts on" in found(Here)


def test_a_start_that_is_not_written_down_first_is_found() -> None:
    class Hasty(Controller):
        def record(self, actions: list[Any], observed: Observed) -> Desired:
            return super().record([one for one in actions if not isinstance(one, Start)], observed)

    class Here(World):
        controller_kind = Hasty

    assert "was sent before" in found(Here)


def test_a_node_that_is_taken_for_dead_because_it_is_silent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = rules._Cluster._seen

    def hasty(self: Any, key: Any, wanted: Any) -> Seen | None:
        seen = real(self, key, wanted)
        unheard = self.observed.reports.get(wanted.node) is None
        return seen if seen or unheard else Seen(wanted.epoch, None, "FENCED")

    monkeypatch.setattr(rules._Cluster, "_seen", hasty)
    assert "acts on" in found(World)


class TwoControllers(World):
    """Schedules in which a second controller always takes over."""

    takes_over = 1.0


def test_a_refusal_that_is_not_heeded_is_found() -> None:
    class Stubborn(Controller):
        def look(self, t: float) -> None:
            self.taken.clear()
            super().look(t)

    class Here(TwoControllers):
        controller_kind = Stubborn

    assert "acts on" in found(Here, MOVES_WHATEVER_IS_SILENT)


def test_nodes_that_may_still_obey_the_first_and_are_taken_for_free_are_found() -> None:
    class Bold(Controller):
        def start(self, t: float) -> None:
            self.desired = replace(self.desired, strangers=frozenset())
            super().start(t)

    class Here(TwoControllers):
        controller_kind = Bold

    assert "acts on" in found(Here, MOVES_WHATEVER_IS_SILENT)


def test_a_stranger_that_is_trusted_at_once_is_found() -> None:
    class Trusting(Controller):
        def admit(self, node: str, now: float) -> Desired:
            return replace(self.desired, strangers=self.desired.strangers - {node})

    class Here(TwoControllers):
        controller_kind = Trusting
        apart = 1.0

    assert "acts on" in found(Here, MOVES_WHATEVER_IS_SILENT)
