"""Each rule of the loop by itself: one instance, what was wanted, what was seen, what is done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fleet.control.model import Desired, Finish, Key, Observed, Renew, Report, Seen, Settings, Start, Stop, Wait, Wanted
from fleet.control.reconcile import reconcile, recorded, taken_up

KEY = Key("r", "a")
SETTINGS = Settings(interval=5, lease=40, stopping=1, lost_after=10)
NOW = 1000.0
NODES = ("n1", "n2", "n3")
RUNS = Seen(epoch=2, until=5020.0)
WANTED = Wanted(epoch=2, node="n1", safe_at=NOW + 30)


def report(*seen: Seen, age: float = 1.0, **changes: Any) -> Report:
    return Report(NOW - age, "boot", 5000.0, dict.fromkeys([KEY], seen[0]) if seen else {}, **changes)


def decide(wanted: Wanted = WANTED, drained: str = "", fit: str = "n2", **reports: Report) -> list[Any]:
    desired = Desired({KEY: wanted}, frozenset(drained.split()))
    observed = Observed(NODES, {"n2": report(), "n3": report(), **reports})

    def choose(key: Key, nodes: list[str]) -> tuple[str | None, str]:
        return (fit, "") if fit in nodes else (None, "no node has room")

    return reconcile(desired, observed, SETTINGS, choose, NOW)


def test_a_lease_is_renewed_when_a_look_has_passed_since() -> None:
    assert decide(n1=report(RUNS)) == [Renew("n1", KEY, 2, "boot", 5040.0)]
    assert decide(n1=report(replace(RUNS, until=5039.0))) == []


def test_one_that_waits_for_a_lease_gets_one() -> None:
    assert decide(n1=report(Seen(2))) == [Renew("n1", KEY, 2, "boot", 5040.0)]


def test_what_is_not_movable_has_no_lease_and_is_never_started_elsewhere() -> None:
    alone = replace(WANTED, movable=False, safe_at=0.0)
    assert decide(alone, n1=report(RUNS)) == []
    assert decide(alone, n1=report(RUNS, age=99)) == []


def test_a_silent_node_may_run_it_until_its_lease_is_over() -> None:
    assert decide(n1=report(RUNS, age=99)) == [Wait(KEY, "may act on n1 for 30 s more")]
    over = replace(WANTED, safe_at=NOW)
    assert decide(over, n1=report(RUNS, age=99)) == [Start("n2", KEY, 3, "boot", 5040.0)]


def test_a_node_that_answers_without_it_may_yet_get_the_start() -> None:
    assert decide(n1=report()) == [Wait(KEY, "may act on n1 for 30 s more")]
    assert decide(replace(WANTED, safe_at=NOW), n1=report()) == [Start("n2", KEY, 3, "boot", 5040.0)]


def test_an_end_counts_however_old_its_report_is() -> None:
    assert decide(n1=report(Seen(2, None, "COMPLETED"), age=99)) == [Finish(KEY, "COMPLETED")]
    fenced = report(Seen(2, None, "FENCED"), age=99)
    assert decide(n1=fenced) == [Start("n2", KEY, 3, "boot", 5040.0)]


def test_nothing_fits_so_it_waits_with_the_reason() -> None:
    assert decide(replace(WANTED, safe_at=NOW), fit="n9", n1=report(RUNS, age=99)) == [Wait(KEY, "no node has room")]


def test_most_nodes_silent_is_the_controllers_own_trouble() -> None:
    over = replace(WANTED, safe_at=NOW)
    (waits,) = decide(over, n1=report(RUNS, age=99), n3=report(age=99))
    assert waits == Wait(KEY, "most nodes are silent, which is taken for the controller's own trouble")


def test_what_is_left_of_an_earlier_epoch_is_stopped_wherever_it_turns_up() -> None:
    old = Seen(1, until=5030.0)
    assert decide(n1=report(replace(RUNS, until=5039.0)), n3=report(old)) == [Stop("n3", KEY, 1)]
    assert decide(replace(WANTED, outcome="COMPLETED"), n3=report(old)) == [Stop("n3", KEY, 1)]


def test_a_persons_stop_forbids_a_replacement() -> None:
    stopped = replace(WANTED, stopped=True)
    assert decide(stopped, n1=report(RUNS)) == [Stop("n1", KEY, 2)]
    assert decide(stopped, n1=report(RUNS, age=99)) == [Wait(KEY, "is to be stopped on n1, which does not answer")]
    assert decide(replace(stopped, safe_at=NOW), n1=report(RUNS, age=99)) == [Finish(KEY, "STOPPED")]
    assert decide(stopped, n1=report(Seen(2, None, "STOPPED"))) == [Finish(KEY, "STOPPED")]


def test_a_drained_node_is_emptied_if_there_is_somewhere_to_go() -> None:
    renewed = Renew("n1", KEY, 2, "boot", 5040.0)
    assert decide(drained="n1", n1=report(RUNS)) == [renewed, Stop("n1", KEY, 2, moving=True)], "it acts until then"
    assert decide(drained="n1", fit="n9", n1=report(RUNS)) == [renewed]
    assert decide(drained="n1 n2", n1=report(RUNS)) == [renewed]
    moving = replace(WANTED, moving=True)
    assert decide(moving, n1=report(Seen(2, None, "STOPPED"))) == [Start("n2", KEY, 3, "boot", 5040.0)]
    assert decide(moving, n1=report(Seen(2, None, "COMPLETED"))) == [Finish(KEY, "COMPLETED")], "before it was stopped"


def test_a_node_that_is_not_fit_gets_nothing() -> None:
    over = replace(WANTED, safe_at=NOW)
    assert decide(over, n1=report(RUNS, age=99), n2=report(fit=False)) == [Wait(KEY, "no node has room")]


def test_what_is_decided_is_written_down_before_it_is_done() -> None:
    desired = Desired({KEY: replace(WANTED, safe_at=NOW)})
    observed = Observed(NODES, {"n2": report(age=3.0)})
    after = recorded(desired, [Start("n2", KEY, 3, "boot", 5040.0)], observed, SETTINGS).instances[KEY]
    assert (after.epoch, after.node) == (3, "n2")
    assert after.safe_at == NOW - 3 + 41 * 1.2


def test_the_largest_deadline_that_was_sent_counts() -> None:
    later = Desired({KEY: replace(WANTED, safe_at=NOW + 500)})
    observed = Observed(NODES, {"n1": report(RUNS)})
    after = recorded(later, [Renew("n1", KEY, 2, "boot", 5040.0)], observed, SETTINGS)
    assert after.instances[KEY].safe_at == NOW + 500


def test_a_controller_that_starts_waits_the_full_length() -> None:
    desired = Desired({KEY: WANTED, Key("r", "b"): replace(WANTED, movable=False)})
    after = taken_up(desired, SETTINGS, 50.0).instances
    assert after[KEY].safe_at == 50 + 41 * 1.2
    assert after[Key("r", "b")] == desired.instances[Key("r", "b")]
