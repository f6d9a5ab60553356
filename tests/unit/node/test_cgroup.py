"""The control group around a process, on kernels of both versions, from folders that look like theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract import cgroup
from contract.exits import ExitMemory
from node import unit_hooks

SLICE = "jarfleet.slice/jarfleet-r.slice/jarfleet-r-a.slice"
UNIT, OTHER = f"{SLICE}/jarfleet-r-a-workload.service", f"{SLICE}/jarfleet-r-a-llama.service"

V2 = ("memory.peak", "memory.max", "memory.events")
V1 = ("memory.max_usage_in_bytes", "memory.limit_in_bytes", "memory.oom_control")


def write(path: Path, text: str | int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("groups", "hierarchy", "peak", "limit", "oom"),
    [
        (f"0::/{UNIT}", "", *V2),
        (f"0::/{UNIT}\n5:memory:/{UNIT}\n4:cpu,cpuacct:/{UNIT}", "memory", *V1),
        (f"5:memory:/{UNIT}\n0::/{UNIT}", "memory", *V1),
    ],
    ids=["version 2", "version 1", "version 1, listed first"],
)
def test_what_the_kernel_counts_is_found_in_both_versions(
    tmp_path: Path, groups: str, hierarchy: str, peak: str, limit: str, oom: str
) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    write(proc / "self/cgroup", groups)
    write(root / hierarchy / UNIT / peak, 10)
    write(root / hierarchy / SLICE / peak, 300)
    write(root / hierarchy / SLICE / limit, 512)
    write(root / hierarchy / UNIT / oom, "oom 5\noom_kill 2\noom_group_kill 0")
    write(root / hierarchy / OTHER / "cgroup.procs", "7\n8\n9")
    write(proc / "7/status", "Name:\tllama-server\nVmHWM:\t     200 kB\nVmRSS:\t 150 kB")
    write(proc / "8/status", "Name:\tchild\nVmHWM:\t       4 kB")
    group = cgroup.own(proc, root)
    assert group
    assert unit_hooks.memory(group).unit_peak == 10
    assert unit_hooks.memory(group).slice_peak == 300
    assert unit_hooks.memory(group).limit == 512
    assert unit_hooks.memory(group).oom_kills == 2
    assert cgroup.resident_peak(root / hierarchy / OTHER, proc) == 204 * 1024, "9 has gone meanwhile"


def test_a_kernel_before_5_19_keeps_no_peak_in_version_2(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", f"0::/{UNIT}")
    write(tmp_path / "cgroup" / UNIT / "memory.current", 5)
    group = cgroup.own(tmp_path / "proc", tmp_path / "cgroup")
    counted = unit_hooks.memory(group)
    assert (counted.unit_peak, counted.slice_peak, counted.others_resident_peak) == (None, None, 0)
    assert counted.oom_kills is None
    assert group
    assert cgroup.amount(group.unit, cgroup.CURRENT) == 5


def test_outside_of_an_instance_there_is_nothing_to_report(tmp_path: Path) -> None:
    write(tmp_path / "self/cgroup", "0::/system.slice/ssh.service\n5:memory:/system.slice/ssh.service")
    assert cgroup.own(tmp_path, tmp_path) is None
    assert unit_hooks.memory(None) == ExitMemory()
