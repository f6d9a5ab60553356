"""What the control loop and the playbooks share on the disk: the desired state, the lock, and who is looked after."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.base.errors import ControlError
from fleet.base.state_folder import NAME
from fleet.control import processes
from fleet.control.desired_store import FILE as STORE
from fleet.control.desired_store import DesiredStore
from fleet.control.loop_file import LoopFile, NodeToAttend, folder_of
from fleet.control.model import Desired, Key
from fleet.control.one_at_a_time import held, holder
from fleet.control.playbooks import _began, is_running, this_playbook

RUN = "x_20261123T141500Z_aaaa"
ROOT = Path(__file__).parents[4]
FILE = LoopFile("c", str(ROOT), (), {"n": NodeToAttend(("false",), "/w", "jar", 90.0, 95.0)}, 5.0, 300.0, 50.0, "me", 7)


@pytest.fixture
def store(tmp_path: Path) -> DesiredStore:
    made = DesiredStore(tmp_path)
    made.look_after(RUN, tmp_path, {"a": ("n1", 1), "b": ("n2", 1)}, this_playbook())
    return made


def test_a_run_is_looked_after_from_before_its_launch_until_it_is_forgotten(
    store: DesiredStore, tmp_path: Path
) -> None:
    assert not store.read().runs[RUN].launched
    store.launched(RUN)
    again = DesiredStore(tmp_path).read()
    assert again.runs[RUN].launched
    assert {key.id: (one.node, one.epoch) for key, one in again.instances.items()} == {"a": ("n1", 1), "b": ("n2", 1)}
    store.forget(RUN)
    assert store.read().instances == {}


def test_a_resumed_instance_takes_the_place_of_what_was_known_of_it(store: DesiredStore, tmp_path: Path) -> None:
    store.stop(RUN)
    store.starting(RUN, ["a"], this_playbook())
    store.acting(RUN, "moves")
    store.look_after(RUN, tmp_path, {"a": ("n3", 2)}, this_playbook())
    wanted = {key.id: one for key, one in store.read().instances.items()}
    assert (wanted["a"].node, wanted["a"].epoch, wanted["a"].stopped, wanted["a"].moving) == ("n3", 2, False, True)
    assert wanted["b"].stopped, "the other one lives on as it was"
    assert store.read().runs[RUN].acting == "moves", "by the loop itself, which may be killed before it has started"
    store.launched(RUN)
    assert not any(one.moving for one in store.read().instances.values())


def test_a_persons_stop_while_something_is_moved_holds(store: DesiredStore, tmp_path: Path) -> None:
    store.starting(RUN, ["a"], this_playbook())
    store.stop(RUN, ["a"])
    store.look_after(RUN, tmp_path, {"a": ("n3", 2)}, this_playbook())
    store.launched(RUN)
    assert [key.id for key, one in store.read().instances.items() if one.stopped] == ["a"], "and it is stopped there"
    store.acting(RUN, "moves")
    store.starting(RUN, ["a", "b"], this_playbook())
    assert [key.id for key, one in store.read().instances.items() if one.stopped] == ["a"]


def test_what_a_playbook_starts_anew_is_its_own_until_it_has_ended(store: DesiredStore) -> None:
    store.launched(RUN)
    assert store.read().runs[RUN].starter == ""
    store.starting(RUN, ["b"], this_playbook())
    assert is_running(store.read().runs[RUN].starter)
    assert [key.id for key, one in store.read().instances.items() if one.moving] == ["b"]
    store.starting("y_20261123T141500Z_aaaa", ["a"], "")
    assert list(store.read().runs) == [RUN]
    another = f"{os.getpid()} {_began(os.getpid())}"
    with pytest.raises(ControlError, match=r"another playbook, process \d+, is starting it"):
        store.starting(RUN, ["a"], another)
    assert [key.id for key, one in store.read().instances.items() if one.moving] == ["b"]
    store.cut_off(RUN)
    assert store.read().runs[RUN].starter == ""
    assert [key.id for key, one in store.read().instances.items() if one.moving] == ["b"], "and is still to be moved"


def test_a_playbook_that_has_ended_is_not_running() -> None:
    pid, began = this_playbook().split(" ", 1)
    assert not is_running(f"{pid} {began}0"), "another process may have its number now"
    with subprocess.Popen(["true"]) as process:
        process.wait()
        assert not is_running(f"{process.pid} {began}")
    assert not is_running("")


def test_a_stop_is_of_a_run_or_of_one_instance(store: DesiredStore) -> None:
    store.stop(RUN, ["b"])
    assert [key.id for key, one in store.read().instances.items() if one.stopped] == ["b"]
    store.stop("y_20261123T141500Z_aaaa")
    store.stop(RUN)
    assert [key.id for key, one in store.read().instances.items() if one.stopped] == ["a", "b"]


def test_what_is_decided_of_an_epoch_says_nothing_of_the_next(store: DesiredStore, tmp_path: Path) -> None:
    before = Desired(store.read().instances)
    key = Key(RUN, "a")
    after = Desired({**before.instances, key: replace(before.instances[key], outcome="COMPLETED")})
    store.look_after(RUN, tmp_path, {"a": ("n1", 2)}, "")
    store.decided(before, after)
    assert store.read().instances[key].outcome == ""
    store.look_after(RUN, tmp_path, {"a": ("n1", 1)}, "")
    store.decided(before, after)
    assert store.read().instances[key].outcome == "COMPLETED"


def test_it_survives_a_kill_in_the_middle_of_writing(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from fleet.control.desired_store import DesiredStore
store = DesiredStore(Path({str(tmp_path)!r}))
print("begins", flush=True)
while True:
    store.look_after({RUN!r}, Path("/"), {{"a": ("n1", 1), "b": ("n2", 1)}}, "")
    store.forget({RUN!r})
"""
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            writer.stdout.readline()
            writer.kill()
        stored = DesiredStore(tmp_path).read()
        assert len(stored.instances) == 2 * len(stored.runs), "all of a run, or nothing of it"


def test_one_loop_at_a_time_which_is_named(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    with held(tmp_path) as announce:
        announce()
        first = holder(tmp_path)
        assert first
        with pytest.raises(ControlError, match=f"runs already: process {first.pid} on {first.host}, since 20"):
            held(tmp_path).__enter__()
    assert holder(tmp_path) is None


def test_the_loop_is_started_and_stopped_as_a_process(tmp_path: Path) -> None:
    assert processes.start(FILE, tmp_path, check=True)
    assert holder(tmp_path) is None
    assert processes.start(FILE, tmp_path)
    first = holder(tmp_path)
    assert not processes.start(FILE, tmp_path), "with the same settings it goes on"
    assert holder(tmp_path) == first
    other = replace(FILE, interval_seconds=7.0)
    assert processes.start(other, tmp_path)
    assert holder(tmp_path) != first
    assert (tmp_path / "loop.json").stat().st_mode & 0o077 == 0
    assert processes.stop(tmp_path)
    assert not processes.stop(tmp_path)
    assert "stopped" in (tmp_path / "loop.log").read_text()


def test_a_loop_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(ControlError, match=r"did not come up; the end of .*File exists"):
        processes.start(FILE, tmp_path)
    (tmp_path / STORE).unlink()
    (tmp_path / STORE).mkdir()
    with pytest.raises(ControlError, match=r"desired.2.db: unable to open database file"):
        processes.start(FILE, tmp_path)


def test_the_coordinator_is_this_machine() -> None:
    processes.check_coordinator("localhost")
    processes.check_coordinator("127.0.0.1")
    with pytest.raises(ControlError, match=r"coordinator_host: 192\.0\.2\.1 is not this machine"):
        processes.check_coordinator("192.0.2.1")


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "my lab", "x" * 300, "\ud800"])
def test_whatever_a_cluster_is_called_it_has_one_folder_of_its_own(name: str) -> None:
    folder = folder_of(name)
    assert folder.parent == folder_of("lab").parent
    assert NAME.fullmatch(folder.name)
    assert folder not in (folder_of("lab"), folder_of(f"{name} "))


def test_how_long_a_lease_lasts_follows_the_interval() -> None:
    assert FILE.settings.lease == 20
    settings = replace(FILE, interval_seconds=30.0).settings
    assert (settings.lease, settings.lost_after) == (40, 60)
    assert settings.wait == pytest.approx((40 + 6) * 1.2)
