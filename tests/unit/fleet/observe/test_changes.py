"""What a watcher reports of a run on one node, look by look."""

from dataclasses import replace

from contract.events import Died, InstanceFault, NodeStatusChanged, StatusChanged
from contract.node_state import InstanceState, NodeState
from contract.progress import Progress
from fleet.observe.changes import RunOnNode, words

RUNNING = InstanceState("run", "a", "RUNNING", deaths={"workload": 0, "llama": 0})


def state(*instances: InstanceState, status: str = "HEALTHY", reasons: tuple[str, ...] = ()) -> NodeState:
    return NodeState(status, reasons, instances=instances)


def test_each_change_is_reported_once() -> None:
    seen = RunOnNode("rpi1")
    assert seen.look(state(RUNNING)) == ([StatusChanged("a", "RUNNING", "rpi1")], [])
    assert seen.look(state(RUNNING)) == ([], [])
    died = replace(RUNNING, status="CRASHED", deaths={"workload": 2, "llama": 1})
    events, _ = seen.look(state(died))
    assert events == [
        Died("a", "workload", 2, "rpi1"),
        Died("a", "llama", 1, "rpi1"),
        StatusChanged("a", "CRASHED", "rpi1"),
    ]
    assert seen.look(state(died)) == ([], [])


def test_a_round_is_a_line_and_no_event() -> None:
    seen = RunOnNode("rpi1")
    seen.look(state(RUNNING))
    later = replace(RUNNING, progress=Progress(cycle=2, round=3, rounds=6))
    assert seen.look(state(later)) == ([], ["a round 3 of 6, cycle 2"])


def test_a_file_with_nonsense_is_reported_once_and_the_instance_goes_on_being_watched() -> None:
    seen = RunOnNode("rpi1")
    wrong = replace(RUNNING, faults=("progress.json: expected an object, found a list",))
    events, _ = seen.look(state(wrong))
    assert InstanceFault("a", wrong.faults[0], "rpi1") in events
    assert seen.look(state(wrong)) == ([], [])
    assert seen.alive


def test_a_node_that_fares_otherwise_is_reported_and_what_has_ended_is_not_alive() -> None:
    seen = RunOnNode("rpi1")
    events, _ = seen.look(state(replace(RUNNING, status="COMPLETED"), status="DEGRADED", reasons=("memory is full",)))
    assert events[0] == NodeStatusChanged("rpi1", "DEGRADED", ("memory is full",))
    assert not seen.alive
    assert seen.statuses == {"a": "COMPLETED"}


def test_an_event_in_words() -> None:
    assert words(StatusChanged("a", "RUNNING", "rpi1")) == "status a RUNNING"
    assert words(Died("a", "llama", 2, "rpi1")) == "died a llama 2"
    assert words(NodeStatusChanged("rpi1", "DEGRADED", ("full", "hot"))) == "node status DEGRADED full, hot"
