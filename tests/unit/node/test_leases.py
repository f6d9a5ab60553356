"""Leases on a node: who has one, which renewals are refused, and the workload's own end of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from contract import names
from contract.description import InstanceDescription, InstanceRef
from contract.leases import Lease
from contract.outcome import Outcome
from node import exit_log, held_leases, lease_renewal, outcomes, systemd
from node.errors import NodeError

RUN = "x_20261123T141500Z_aaaa"


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstanceDescription:
    """An instance with a lease-bound description in its folder, and no lease."""
    monkeypatch.setattr(names, "LEASES_FOLDER", str(tmp_path / "leases"))
    work_dir = tmp_path / "work"
    folder = Path(names.instance_folder(str(work_dir), RUN, "a"))
    folder.mkdir(parents=True)
    made = InstanceDescription(RUN, "a", folder, "http://127.0.0.1:1", epoch=2, leased=True)
    (folder / names.DESCRIPTION).write_text(json.dumps(made.to_json()))
    return made


def ref(instance: InstanceDescription) -> InstanceRef:
    return InstanceRef(RUN, "a", "n", str(instance.dir.parents[2]), "jar")


def lease(seconds: float, epoch: int = 2) -> Lease:
    return Lease(exit_log.boot(), held_leases.clock() + seconds, epoch)


def give(one: Lease) -> None:
    lease_renewal.make_folder(RUN, "a")
    Path(names.lease_file(RUN, "a")).write_text(json.dumps(one.to_json()))


def test_an_instance_acts_only_with_a_lease_of_this_boot_and_of_its_epoch(instance: InstanceDescription) -> None:
    assert not held_leases.holds(instance)
    assert held_leases.holds(replace(instance, leased=False)), "it was launched to run without one"
    for wrong in (lease(-1), lease(60, epoch=1), replace(lease(60), boot="of yesterday")):
        give(wrong)
        assert not held_leases.holds(instance)
        assert held_leases.seconds_left(instance) == 0
    give(lease(60))
    assert held_leases.holds(instance)
    assert 50 < held_leases.seconds_left(instance) <= 60


def test_nonsense_and_links_are_no_lease(instance: InstanceDescription, tmp_path: Path) -> None:
    lease_renewal.make_folder(RUN, "a")
    path = Path(names.lease_file(RUN, "a"))
    for text in ("", "{}", '{"boot": "b", "until": "soon", "epoch": 2}', '{"boot": "b", "until": 1e999, "epoch": 2}'):
        path.write_text(text)
        assert not held_leases.holds(instance)
    (tmp_path / "elsewhere").write_text(json.dumps(lease(60).to_json()))
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert not held_leases.holds(instance)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"boot": "of yesterday"}, "it is of another boot of this node"),
        ({"seconds": -2.5}, "it comes 2.5 s too late"),
        ({"seconds": 4000}, "and may last 3600 s"),
        ({"epoch": 1}, "it is of epoch 1, and epoch 2 is here"),
        ({"epoch": 3}, "it is of epoch 3, and epoch 2 is here"),
    ],
)
def test_a_wrong_renewal_is_refused(instance: InstanceDescription, wrong: dict[str, object], words: str) -> None:
    given = lease(float(str(wrong.pop("seconds", 60))))
    with pytest.raises(NodeError, match=words):
        lease_renewal.renew(ref(instance), replace(given, **wrong))  # type: ignore[arg-type]
    assert not Path(names.lease_file(RUN, "a")).exists()


def test_what_is_not_here_has_ended_or_needs_no_lease_gets_none(instance: InstanceDescription) -> None:
    with pytest.raises(NodeError, match=r"b of x_.* gets no lease: it is not on this node"):
        lease_renewal.renew(replace(ref(instance), id="b"), lease(60))
    free = replace(instance, leased=False)
    (instance.dir / names.DESCRIPTION).write_text(json.dumps(free.to_json()))
    with pytest.raises(NodeError, match="it was launched to run without one"):
        lease_renewal.renew(ref(instance), lease(60))
    (instance.dir / names.DESCRIPTION).write_text(json.dumps(instance.to_json()))
    outcomes.write(instance.dir, Outcome("STOPPED"))
    with pytest.raises(NodeError, match="it has ended"):
        lease_renewal.renew(ref(instance), lease(60))


def test_an_older_renewal_that_arrives_later_takes_nothing_back(instance: InstanceDescription) -> None:
    now = lease(60)
    give(now)
    lease_renewal.renew(ref(instance), lease(30))
    assert held_leases.current(RUN, "a") == now


def test_a_lease_that_is_about_to_end_is_not_prolonged(instance: InstanceDescription) -> None:
    """It might end while its end is moved: the next one comes a moment later, and starts what has stopped."""
    ending = lease(0.9)
    give(ending)
    with pytest.raises(NodeError, match="once this one has ended"):
        lease_renewal.renew(ref(instance), lease(60))
    assert held_leases.current(RUN, "a") == ending


@pytest.mark.parametrize("state", ["active", "deactivating"])
def test_no_lease_is_given_while_what_acted_by_the_last_one_is_being_stopped(
    instance: InstanceDescription, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Its exit would be written down as that of a process with a lease, which nobody starts again."""
    unit = names.unit_name(RUN, "a", names.WORKLOAD)
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\nprintf 'Id={unit}\\nLoadState=loaded\\nActiveState={state}\\n'\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(systemd, "UNIT_FOLDER", tmp_path)
    (tmp_path / unit).touch()
    give(lease(-0.1))
    with pytest.raises(NodeError, match="once all that acted by its last one has stopped"):
        lease_renewal.renew(ref(instance), lease(60))
    assert not held_leases.holds(instance)


ACTS = """
import sys, time
from contract import names
names.LEASES_FOLDER = sys.argv[1]
from workload import lease_timer
lease_timer.obey(sys.argv[2], "a", 2)
print("acts", flush=True)
while True:
    time.sleep(0.01)
"""


def workload(tmp_path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ACTS, str(tmp_path / "leases"), RUN]
    return subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True)


def test_a_workload_ends_with_its_lease_and_follows_its_renewals(instance: InstanceDescription, tmp_path: Path) -> None:
    give(lease(3))
    ends = held_leases.clock() + 6
    with workload(tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline() == "acts\n"
        give(Lease(exit_log.boot(), ends, 2))
        give(Lease(exit_log.boot(), ends, 2))
        assert process.wait(30) == -signal.SIGALRM
    assert ends <= held_leases.clock(), "it followed the renewal"


@pytest.mark.parametrize("given", [None, lease(60, epoch=1)], ids=["none", "of an earlier epoch"])
def test_a_workload_without_a_lease_does_not_begin(
    instance: InstanceDescription, tmp_path: Path, given: Lease | None
) -> None:
    if given:
        give(given)
    with workload(tmp_path) as process:
        assert process.wait(30) == 1


def test_a_workload_whose_lease_ended_while_it_was_stopped_runs_no_more(
    instance: InstanceDescription, tmp_path: Path
) -> None:
    """As when its node hangs: what ended meanwhile is delivered before its next instruction."""
    give(lease(2))
    with workload(tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline() == "acts\n"
        process.send_signal(signal.SIGSTOP)
        while held_leases.holds(instance):
            time.sleep(0.05)
        process.send_signal(signal.SIGCONT)
        assert process.wait(30) == -signal.SIGALRM
