"""Whether a run has ended, as far as its nodes and its record tell: nothing runs twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contract.events import Collected, Launched, Moves, NodeLost, Resumed
from fleet.base.errors import ResumeRejected
from fleet.intake.request import ResumeOf
from fleet.intake.workload_settings import Peers
from fleet.launch import key_store
from fleet.launch.resuming import (
    Start,
    Wish,
    alone_problems,
    checkpoint_of,
    not_ended,
    starts,
    states,
    still_due,
    with_needed,
)
from fleet.observe.cluster import Cluster
from fleet.record import checkpoints
from fleet.record.checkpoints import Home
from fleet.record.run_folder import Run
from placement import Experiment, parse_experiment

RUN = "x_20261123T141500Z_aaaa"
MANIFEST = {"models": {id: {"sha256": "m"} for id in "ab"}, "code": {"hash": "c"}}
VARIABLES = {"ssh_user": "pi", "remote_work_dir": "/w"}


def node(*instances: tuple[str, str, int]) -> dict[str, Any]:
    states = [{"run_id": RUN, "id": id, "status": status, "epoch": epoch} for id, status, epoch in instances]
    return {**VARIABLES, "node_probe": {"state": {"status": "HEALTHY", "ram_gb": 8, "instances": states}}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.create(tmp_path, RUN, MANIFEST, {"assignments": {"a": "n1", "b": "n2"}})
    made.append(Launched("a@n1", "RUNNING"))
    made.append(Launched("b@n2", "RUNNING"))
    return made


def why(run: Run, gone: str = "", *, moves: str = "a b", stops: bool = False, **nodes: Any) -> list[str]:
    cluster, wish = Cluster.from_hostvars(nodes), Wish(stops=stops, gone=tuple(gone.split()))
    return not_ended(run, cluster, states(run, cluster), moves.split(), wish)


def where(run: Run, **nodes: Any) -> dict[str, str]:
    return {id: node for id, (node, _) in states(run, Cluster.from_hostvars(nodes)).items()}


def experiment(more: str = "", network: str = "peers") -> Experiment:
    minds = "".join(f"  - {{id: {id}, ram_gb: 1, network: {network}}}\n" for id in "abc")
    return parse_experiment(f"name: x\ninstances:\n{minds}{more}", Path("x.yml"))


def alone(run: Run, network: str = "peers", pins: dict[str, str] | None = None, **nodes: Any) -> list[str]:
    """Why a and c cannot live on while b goes on elsewhere."""
    cluster, known = Cluster.from_hostvars(nodes), experiment(network=network)
    others = [one for one in known.instances if one.id != "b"]
    return alone_problems(run, states(run, cluster), cluster, Peers(known), others, Wish(pins=pins or {}), leased=False)


def test_what_has_ended_is_found_where_it_is(run: Run) -> None:
    nodes = {"n1": node(("a", "STOPPED", 1)), "n2": node(("b", "FAILED", 1))}
    assert where(run, **nodes) == {"a": "n1", "b": "n2"}
    assert why(run, **nodes) == []


def test_of_one_that_was_resumed_elsewhere_the_newest_epoch_counts(run: Run) -> None:
    run.append(Resumed("a", 2, "n2"))
    gone = {"n1": node(("a", "STOPPED", 1)), "n2": VARIABLES}
    assert where(run, **gone) == {}, "what is left of an earlier epoch is not where it was: it must not come home again"
    nodes = {"n1": node(("a", "STOPPED", 1)), "n2": node(("b", "STOPPED", 1), ("a", "COMPLETED", 2))}
    assert where(run, **nodes) == {"a": "n2", "b": "n2"}
    assert why(run, **nodes) == []


def test_one_that_is_alive_stands_against_it(run: Run) -> None:
    (reason,) = why(run, n1=node(("a", "CRASHED", 1)), n2=node(("b", "STOPPED", 1)))
    assert reason == f"a is CRASHED on n1; stop the run first: ansible-playbook playbooks/stop.yml -e run={RUN}"
    assert why(run, stops=True, n1=node(("a", "CRASHED", 1)), n2=node(("b", "STOPPED", 1))) == [], "it is stopped first"
    assert why(run, moves="b", n1=node(("a", "RUNNING", 1)), n2=node(("b", "STOPPED", 1))) == [], "it lives on"


def test_an_earlier_epoch_that_is_alive_still_stands_against_it(run: Run) -> None:
    run.append(Resumed("a", 2, "n2"))
    (reason,) = why(run, n1=node(("a", "RUNNING", 1)), n2=node(("b", "STOPPED", 1), ("a", "STOPPED", 2)))
    assert reason.startswith("a is RUNNING on n1")
    assert why(run, stops=True, n1=node(("a", "RUNNING", 1)), n2=node(("b", "STOPPED", 1), ("a", "STOPPED", 2)))


def test_a_silent_node_may_still_run_it(run: Run) -> None:
    (reason,) = why(run, n1=node(("a", "STOPPED", 1)), n2=VARIABLES)
    assert reason.startswith("b may still run on n2, which does not answer")
    run.append(Resumed("a", 2, "n2"))
    assert [one[:20] for one in why(run, n1=node(("a", "STOPPED", 1)), n2=VARIABLES)] == [
        "a may still run on n", "b may still run on n",
    ]  # fmt: skip


def test_a_silent_node_has_said_that_it_ended(run: Run) -> None:
    run.append(Collected({"a": "STOPPED", "b": "STOPPED"}))
    assert why(run, n1=node(("a", "STOPPED", 1)), n2=VARIABLES) == []
    run.append(Resumed("b", 2, "n2"))  # and was started again since
    assert why(run, n1=node(("a", "STOPPED", 1)), n2=VARIABLES)


def test_a_node_that_answers_and_has_nothing_of_it_runs_nothing_of_it(run: Run) -> None:
    assert why(run, n1=node(("a", "STOPPED", 1)), n2=node()) == []


def test_a_person_knows_that_a_node_is_off_and_no_node_that_answers_is(run: Run) -> None:
    nodes = {"n1": node(("a", "STOPPED", 1)), "n2": VARIABLES}
    assert why(run, "n2", **nodes) == []
    assert why(run, "n1 n2", **nodes) == ["gone=n1: it answers; stop the run there"]
    assert why(run, "n2 n9", **nodes) == ["gone=n9: no such node; there are n1, n2"]


@pytest.fixture
def of_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    key_store.make(RUN, [])
    return Run.create(tmp_path, RUN, {}, {"assignments": {"a": "n1", "b": "n2", "c": "n3"}})


def test_the_others_live_on_where_they_can_be_told_the_new_address(of_three: Run) -> None:
    alive = {"n1": node(("a", "RUNNING", 1)), "n3": node(("c", "CRASHED", 1)), "n2": VARIABLES}
    assert alone(of_three, **alive) == []
    assert alone(of_three, "open", **alive) == [
        f"{id} has no private network, so it cannot be told the new address of b" for id in "ac"
    ]
    assert alone(of_three, "open", n1=node(("a", "FAILED", 1)), n2=node(), n3=node(("c", "STOPPED", 1))) == []
    (reason,) = alone(of_three, **{**alive, "n3": VARIABLES})
    assert reason == "c is on n3, which does not answer: it cannot be told of a new address"
    (reason,) = alone(of_three, pins={"a": "n2"}, **alive)
    assert reason == "a is not among the instances that move, so it stays where it is"


def test_the_others_do_not_live_on_with_keys_that_are_lost_or_in_another_care(of_three: Run) -> None:
    nodes = {"n1": node(("a", "RUNNING", 1)), "n2": VARIABLES, "n3": node(("c", "COMPLETED", 1))}
    nodes["n1"]["node_probe"]["state"]["instances"][0]["leased"] = True
    assert alone(of_three, **nodes) == ["a on n1 was launched with the control loop"]
    key_store.remove(RUN)
    assert alone(of_three, **nodes)[0] == "the keys of a are not on this controller, so none could know the others"
    assert alone(of_three, n1=node(("a", "STOPPED", 1)), n2=VARIABLES, n3=node(("c", "COMPLETED", 1))) == []


def test_with_one_that_goes_back_goes_a_peer_that_has_ended_by_itself_and_no_other(of_three: Run) -> None:
    of_three.append(Collected({"c": "COMPLETED"}))
    here = states(of_three, Cluster.from_hostvars({"n1": node(("a", "RUNNING", 1)), "n2": VARIABLES, "n3": VARIABLES}))
    assert with_needed(of_three, here, experiment(), ["b"]) == {"b", "c"}
    assert with_needed(of_three, here, experiment(network="isolated"), ["b"]) == {"b"}
    of_three.append(Collected({"a": "STOPPED", "c": "FAILED"}))
    gone = states(of_three, Cluster.from_hostvars({"n1": VARIABLES, "n2": VARIABLES, "n3": VARIABLES}))
    assert with_needed(of_three, gone, experiment(), ["b"]) == {"b", "c"}, "for want of its peer maybe"
    of_three.append(Resumed("c", 2, "n3"))
    assert with_needed(of_three, here, experiment(), ["b"]) == {"b"}, "it was started again since"


def test_an_epoch_that_somebody_else_has_begun_is_not_begun_again(run: Run) -> None:
    wanted = ResumeOf(RUN, {"a": 2, "b": 3})
    still_due(run, wanted)
    run.append(Resumed("b", 2, "n2"))
    still_due(run, wanted)
    run.append(Resumed("b", 3, "n2"))
    with pytest.raises(ResumeRejected, match="b was resumed by another playbook just now"):
        still_due(run, wanted)


def test_what_a_command_watches_on_its_nodes_is_not_moved_under_its_eyes(run: Run) -> None:
    nodes = {"n1": node(("a", "RUNNING", 1)), "n2": node(("b", "STOPPED", 1))}
    assert why(run, stops=True, **nodes) == []
    with run.watched(), run.watched():
        (reason,) = why(run, stops=True, **nodes)
        assert reason.startswith("a command watches it where it is")
        assert why(run, moves="b", stops=True, **nodes) == [], "it has ended"
    assert not run.is_watched


def begun(run: Run, until: str = "") -> tuple[dict[str, Start], dict[str, str]]:
    """How each goes on, and for what cause its last life ended as it is told."""
    cluster = Cluster.from_hostvars({"n1": node(), "n2": node()})
    found = starts(run, cluster, ["a", "b"], until)
    told = {id: checkpoint_of(run, id, checkpoints.named(run, id, one.checkpoint)).exits for id, one in found.items()}
    return found, {id: exits[-1].cause if exits else "" for id, exits in told.items()}


def test_a_life_goes_on_where_it_was_stopped_for_a_move_and_for_nothing_else(run: Run) -> None:
    for id in "ab":
        (run.path / "db" / f"{id}.db").write_text("rows")
    first = checkpoints.take(run, {"a": Home(1, "RUNNING"), "b": Home(1, "RUNNING")}).kept["a"].checkpoint
    run.append(Moves(("a", "b"), ("a",)))
    for id in "ab":
        (run.path / "db" / f"{id}.db").unlink()
        (run.path / "db" / f"{id}.db").write_text("more rows")
    checkpoints.take(run, {"a": Home(1, "STOPPED"), "b": Home(1, "RUNNING")})
    found, causes = begun(run)
    assert {id: one.moved for id, one in found.items()} == {"a": True, "b": False}
    assert causes == {"a": "", "b": "node_lost"}, "b was never seen to have ended"
    assert not any(one.moved for one in begun(run, first)[0].values()), "it goes back, so it dies"
    run.append(Resumed("a", 2, "n2"))
    assert not begun(run)[0]["a"].moved, "that was the move before"


def test_one_that_was_lost_is_told_when(run: Run) -> None:
    (run.path / "db" / "b.db").write_text("rows")
    kept = checkpoints.take(run, {"b": Home(1, "RUNNING")}).kept["b"]
    run.append(NodeLost("n1", "2026-11-27T10:00:00.000+00:00"))
    run.append(NodeLost("n2", "2026-11-27T11:00:00.000+00:00"))
    (one,) = checkpoint_of(run, "b", kept).exits
    assert (one.time, one.node, one.words) == ("2026-11-27T11:00:00.000+00:00", "n2", "its node was lost")
