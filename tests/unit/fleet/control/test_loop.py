"""The control loop around its decisions: what it begins when, what it writes down first, what it never does."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from contract.attention import Renewal, Report
from contract.events import NodeLost
from contract.node_state import InstanceState, NodeState
from fleet.control.cluster_events import ClusterEvents
from fleet.control.desired_store import DesiredStore
from fleet.control.loop import AGAIN_SECONDS, PERSONS_SECONDS, Loop
from fleet.control.loop_file import LoopFile, NodeToAttend
from fleet.control.model import Key
from fleet.control.playbooks import this_playbook
from fleet.observe import service_words
from fleet.record.run_folder import Run

RUN = "x_20261123T141500Z_aaaa"
NODES = ("n1", "n2", "n3", "n4")
FILE = LoopFile(
    cluster="c",
    project="/nowhere",
    inventory=(),
    nodes={name: NodeToAttend(("false",), "/w", "jar", 90.0, 95.0) for name in NODES},
    interval_seconds=5.0,
    checkpoint_seconds=300.0,
    most_lost_percent=50.0,
    controller="me",
    term=1,
)
WAIT = FILE.settings.wait
MOVED = {"run": RUN, "else_all": "true", "detach": "true", "stop": "true", "gone": "n2", "unasked": "n2"}
GONE = "1 0 0"  # a playbook that has ended


class Cluster:
    """A loop with its store, whose nodes say what a test has them say, and whose playbooks are written down."""

    def __init__(self, folder: Path) -> None:
        runs = folder / "runs"
        Run.create(runs, RUN, {"experiment": "x"}, {"assignments": {"a": "n1", "b": "n2"}})
        self.folder, self.store = folder / "loop", DesiredStore(folder / "loop")
        self.store.look_after(RUN, runs, {"a": ("n1", 1), "b": ("n2", 1)}, this_playbook())
        self.store.launched(RUN)
        self.played: list[tuple[str, dict[str, str]]] = []
        self.problem, self.renewed, self.now = "", set[tuple[str, int]](), 1000.0
        self.on: dict[str, list[InstanceState]] = {
            "n1": [instance("a")], "n2": [instance("b")], "n3": [], "n4": [],
        }  # fmt: skip
        self.begin()

    def begin(self) -> None:
        """A loop that starts."""
        self.loop = Loop(FILE, self.folder, lambda: self.now)
        self.loop._checkpointed[RUN] = self.now
        self.loop.playbooks.play = self._play  # type: ignore[method-assign]
        for link in self.loop.links.values():
            link.renew = self._renew  # type: ignore[method-assign]

    async def _play(self, verb: str, run_id: str, runs_dir: str, **variables: str) -> str:
        self.played.append((verb, {"run": run_id, **variables}))
        return self.problem

    def _renew(self, renewal: Renewal) -> None:
        self.renewed.add((renewal.instance_ref.id, renewal.lease.epoch))

    async def pass_seconds(self, seconds: float, *, silent: tuple[str, ...] = ()) -> None:
        """Time passes: every node but the silent ones reports each second."""
        end = self.now + seconds
        while self.now < end:
            self.now += 1.0
            for node, instances in self.on.items():
                if node not in silent:
                    state = NodeState("HEALTHY", instances=tuple(instances))
                    self.loop.reports[node] = (self.now, Report("boot", self.now, state))
            self.loop.tick(self.now)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    @property
    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.played]

    def waits(self) -> dict[str, str]:
        run = self.store.read().runs.get(RUN)
        return dict(run.waits) if run else {}


def instance(id: str, epoch: int = 1, status: str = "RUNNING", lease: float = 15.0) -> InstanceState:
    return InstanceState(RUN, id, status, epoch=epoch, leased=True, lease_seconds=lease)


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Callable[[Cluster], Coroutine[None, None, None]]], None]:
    def played(scene: Callable[[Cluster], Coroutine[None, None, None]]) -> None:
        async def scene_of() -> None:
            await scene(Cluster(tmp_path))

        asyncio.run(scene_of())

    return played


Play = Callable[[Callable[[Cluster], Coroutine[None, None, None]]], None]


def test_a_healthy_run_is_renewed_and_checkpointed_and_left_alone(play: Play) -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.pass_seconds(FILE.checkpoint_seconds - 5)
        assert cluster.played == []
        assert cluster.renewed == {("a", 1), ("b", 1)}
        await cluster.pass_seconds(10)
        assert cluster.played == [("checkpoint", {"run": RUN})]

    play(scene)


def test_of_whom_it_does_not_hear_is_written_down(play: Play) -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.pass_seconds(1, silent=NODES)
        assert cluster.store.read().links == dict.fromkeys(NODES, "it has not answered yet")
        cluster.loop.links["n2"].problem = "Permission denied"
        await cluster.pass_seconds(1, silent=("n2",))
        assert cluster.store.read().links == {"n1": "", "n2": "Permission denied", "n3": "", "n4": ""}

    play(scene)


def test_a_lost_node_is_waited_for_and_then_the_run_is_moved(play: Play) -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.pass_seconds(5)
        await cluster.pass_seconds(WAIT - 2, silent=("n2",))
        assert cluster.played == [], "its lease may not have ended"
        assert cluster.waits()["b"].startswith("may act on n2 for ")
        await cluster.pass_seconds(4, silent=("n2",))
        assert cluster.played[0] == ("resume", {**MOVED, "instance": "b"}), "and a lives on"
        kinds = [event.kind for _, event in Run(Path(cluster.store.read().runs[RUN].runs_dir) / RUN).events()]
        assert "node_lost" in kinds
        assert "waits" in kinds

    play(scene)


def test_a_move_that_fails_is_tried_again_later_and_told(play: Play) -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.problem = "resume.yml exited with 2: no plan"
        await cluster.pass_seconds(5)
        await cluster.pass_seconds(WAIT + 2, silent=("n2",))
        assert cluster.verbs == ["resume"]
        await cluster.pass_seconds(2, silent=("n2",))
        assert "no plan" in cluster.waits()["b"]
        await cluster.pass_seconds(AGAIN_SECONDS, silent=("n2",))
        assert cluster.verbs == ["resume", "resume"]

    play(scene)


def test_a_run_that_is_being_launched_is_let_act_and_nothing_else(play: Play) -> None:
    async def scene(cluster: Cluster) -> None:
        runs = Path(cluster.store.read().runs[RUN].runs_dir)
        cluster.store.look_after(RUN, runs, {"a": ("n1", 2), "b": ("n3", 2)}, this_playbook())
        cluster.on = {"n1": [instance("a", 2, "PENDING", 0.0)], "n2": [], "n3": [], "n4": []}
        await cluster.pass_seconds(3 * WAIT)
        assert cluster.renewed == {("a", 2)}
        assert cluster.played == []
        assert cluster.waits() == {}

    play(scene)


def test_a_persons_stop_forbids_a_replacement_and_is_done_when_the_node_comes_back(play: Play) -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.pass_seconds(5)
        cluster.store.stop(RUN)
        cluster.on["n1"] = [instance("a", status="STOPPED", lease=0.0)]
        await cluster.pass_seconds(WAIT - 2, silent=("n2",))
        assert cluster.played == []
        assert "n2, which does not answer" in cluster.waits()["b"]
        await cluster.pass_seconds(PERSONS_SECONDS + 5)
        assert "stop" in cluster.verbs
        assert "resume" not in cluster.verbs
        cluster.on["n2"] = [instance("b", status="STOPPED", lease=0.0)]
        await cluster.pass_seconds(3)
        assert cluster.verbs[-1] == "fetch"
        assert cluster.store.read().runs == {}

    play(scene)


def test_a_run_that_has_ended_is_brought_home_once_and_forgotten(play: Play) -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.on["n1"] = [instance("a", status="COMPLETED", lease=0.0)]
        await cluster.pass_seconds(5)
        assert cluster.played == [], "the other one goes on"
        cluster.on["n2"] = [instance("b", status="FAILED", lease=0.0)]
        await cluster.pass_seconds(10)
        assert cluster.played == [("fetch", {"run": RUN})]
        assert cluster.store.read().runs == {}

    play(scene)


def test_what_came_back_in_an_earlier_epoch_is_stopped_before_anything_else(play: Play) -> None:
    async def scene(cluster: Cluster) -> None:
        runs = Path(cluster.store.read().runs[RUN].runs_dir)
        cluster.store.look_after(RUN, runs, {"a": ("n1", 2), "b": ("n3", 2)}, this_playbook())
        cluster.store.launched(RUN)
        cluster.on = {"n1": [instance("a", 2)], "n2": [instance("b", 1)], "n3": [instance("b", 2)], "n4": []}
        await cluster.pass_seconds(2)
        assert cluster.played[0] == ("stop", {"run": RUN, "earlier": "true"})
        assert set(cluster.verbs) == {"stop"}
        assert ("b", 1) not in cluster.renewed

    play(scene)


def test_most_nodes_silent_is_the_controllers_own_trouble(play: Play) -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.pass_seconds(5)
        await cluster.pass_seconds(3 * WAIT, silent=("n1", "n2", "n3"))
        assert cluster.played == []
        assert "the controller's own trouble" in cluster.waits()["b"]

    play(scene)


def test_a_loop_that_starts_waits_the_full_length_and_takes_up_what_was_cut_off(play: Play) -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.pass_seconds(5)
        cluster.store.acting(RUN, "moves")
        cluster.store.starting(RUN, ["a", "b"], GONE)  # killed then
        cluster.on["n1"] = [instance("a", status="STOPPED", lease=0.0)]
        with cluster.loop.playbooks._lock(RUN):  # as the playbook that outlived it does
            cluster.begin()
            await cluster.pass_seconds(2 * WAIT)
            assert cluster.played == []
            assert cluster.renewed
        cluster.begin()
        await cluster.pass_seconds(WAIT - 2, silent=("n2",))
        assert cluster.played == [], "what it stopped itself could be started, but not yet what was on n2"
        await cluster.pass_seconds(4, silent=("n2",))
        assert cluster.played[0] == ("resume", {**MOVED, "instance": "a,b"})
        assert cluster.store.read().runs[RUN].acting == ""
        assert cluster.store.read().instances[Key(RUN, "a")].outcome == "", "the loop stopped it, no person did"

    play(scene)


def test_a_launch_that_was_cut_off_is_cleaned_up(play: Play) -> None:
    async def scene(cluster: Cluster) -> None:
        other = RUN.replace("aaaa", "bbbb")
        Run.create(cluster.folder / "runs", other, {"experiment": "x"}, {"assignments": {"a": "n3"}})
        cluster.store.look_after(other, cluster.folder / "runs", {"a": ("n3", 1)}, this_playbook())
        await cluster.pass_seconds(5)
        assert cluster.played == [], "its playbook is at it"
        cluster.store.look_after(other, cluster.folder / "runs", {"a": ("n3", 1)}, GONE)
        await cluster.pass_seconds(1)
        assert cluster.played == [("stop", {"run": other})]

    play(scene)


def test_events_go_to_the_run_to_the_cluster_and_to_the_hook(tmp_path: Path) -> None:
    told = tmp_path / "told"
    code = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read())"
    events = ClusterEvents(tmp_path, (sys.executable, "-c", code))
    events.append(NodeLost("n1", reason="\x1b[31m"), RUN)
    deadline = time.monotonic() + 30
    while not (told.exists() and told.read_text().endswith("\n")) and time.monotonic() < deadline:
        time.sleep(0.05)
    line = json.loads(told.read_text())
    assert (line["event"], line["node"], line["run_id"]) == ("node_lost", "n1", RUN)
    assert json.loads((tmp_path / "events.jsonl").read_text()) == line


def test_a_node_that_is_drained_is_emptied_where_there_is_a_plan(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(cluster: Cluster) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(cluster.folder))
        await cluster.pass_seconds(5)
        service_words.write("c", "n2", service_words.MAINTENANCE)
        await cluster.pass_seconds(5)
        assert cluster.played == [], "what is there may stay"
        service_words.write("c", "n2", service_words.DRAINED)
        cluster.problem = "no plan"
        await cluster.pass_seconds(5)
        assert set(cluster.verbs) == {"resume"}, "which stops nothing before there is a plan"
        assert ("b", 1) in cluster.renewed, "so it acts on"
        await cluster.pass_seconds(2)
        assert cluster.waits() == {"b": "no plan"}
        cluster.problem = ""
        await cluster.pass_seconds(AGAIN_SECONDS)
        assert cluster.played[-1] == ("resume", {**MOVED, "instance": "b", "gone": "", "unasked": ""})
        assert cluster.waits() == {}

    play(scene)
