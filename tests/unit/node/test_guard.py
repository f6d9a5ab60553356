"""The guard of an instance's folder: what it counts, and what it allows."""

from __future__ import annotations

import os
from pathlib import Path

from contract.description import InstanceDescription, Resources
from node import guard

GB = 2**30


def instance(folder: Path, disk_gb: float = 0.0) -> InstanceDescription:
    return InstanceDescription("r", "a", folder, "", resources=Resources(disk_gb=disk_gb))


def test_what_is_on_the_disk_counts_and_no_link_is_followed(tmp_path: Path) -> None:
    before = guard.use(tmp_path)
    (tmp_path / "big").write_bytes(b"x" * 2**20)
    (tmp_path / "link").symlink_to("/usr")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(2**40)
    used = guard.use(tmp_path)
    assert 2**20 <= used.size - before.size < 2**20 + 2**16, "a hole takes nothing"
    assert used.files - before.files == 3


def test_a_declared_size_holds_and_else_the_room_of_the_disk_decides(tmp_path: Path) -> None:
    assert guard.limit(tmp_path, instance(tmp_path, 1.5), 0, 4) == int(1.5 * GB)
    room = os.statvfs(tmp_path)
    free = room.f_bavail * room.f_frsize
    for most in (1, 4, 10_000):
        assert abs(guard.limit(tmp_path, instance(tmp_path), 0, most) - min(4 * GB, free // (2 * most))) < GB
    assert guard.limit(tmp_path, instance(tmp_path), 0, 10) >= 2**28 or room.f_blocks * room.f_frsize < 40 * 2**28
    one, other = (guard.limit(tmp_path, instance(tmp_path), used, 1000) for used in (0, 10**13))
    assert other > one, "what it has taken itself is not held against it"


def test_names_that_mean_something_to_a_command_line_mean_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "--exclude=*"
    folder.mkdir()
    (folder / "-rf").write_bytes(b"x" * 2**20)
    (folder / "new\nline").write_bytes(b"x" * 2**20)
    assert guard.use(folder).size >= 2**21
