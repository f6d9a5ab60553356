"""The pool of users: nobody has another's, and none comes back while anything is left of whoever had it."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import guard, shared_folder, users
from node.errors import NodeError

ONE, TWO = "games", "news"  # Debian's own: no process runs as either
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, as root can")


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Two users that every Debian has, instead of those that systemd-sysusers would make."""
    monkeypatch.setattr(users, "POOL", (ONE, TWO))
    monkeypatch.setattr(users, "LENT", tmp_path / "lent")
    monkeypatch.setattr(users, "make_pool", lambda: None)
    return


def lend(folder: Path) -> str:
    with users.lending(folder) as user:
        shared_folder.make(folder, user.pw_gid)
        (folder / "its own").touch(0o600)
        os.chown(folder / "its own", user.pw_uid, user.pw_gid)
        return user.pw_name


def test_each_instance_has_another_user_until_there_is_none(tmp_path: Path) -> None:
    assert [lend(tmp_path / id) for id in ("a", "b")] == [ONE, TWO]
    assert [users.user_of(tmp_path / id) for id in ("a", "b", "c")] == [ONE, TWO, None]
    with pytest.raises(NodeError, match="all 2 users for instances are in use"):
        lend(tmp_path / "c")


def test_a_user_comes_back_when_all_files_are_root_s(tmp_path: Path) -> None:
    lend(tmp_path / "a")
    (tmp_path / "a" / "link").symlink_to("/etc/passwd")
    users.seize(tmp_path / "a")
    for path in (tmp_path / "a", *(tmp_path / "a").iterdir()):
        found = path.lstat()
        assert (found.st_uid, found.st_gid) == (0, 0)
        assert stat.S_ISLNK(found.st_mode) or not found.st_mode & 0o022
    assert pwd.getpwuid(Path("/etc/passwd").stat().st_uid).pw_name == "root"
    assert users.user_of(tmp_path / "a") is None
    assert lend(tmp_path / "b") == ONE


def test_a_tree_without_end_is_taken_back_too(tmp_path: Path) -> None:
    """Deeper than a path may be long, and than Python's own walk goes."""
    lend(tmp_path / "a")
    made = "import os\nfor _ in range(3000): os.mkdir('deeper'); os.chdir('deeper')"
    subprocess.run([sys.executable, "-c", made], cwd=tmp_path / "a", check=True)
    assert guard.use(tmp_path / "a").files > 3000
    users.seize(tmp_path / "a")
    assert users.user_of(tmp_path / "a") is None
    subprocess.run(["rm", "-rf", tmp_path / "a"], check=True)


def test_a_user_does_not_come_back_while_a_process_has_its_id(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], user=ONE) as process:
        try:
            assert lend(tmp_path / "a") == TWO
        finally:
            process.kill()


def test_an_instance_that_is_not_made_gives_its_user_back(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), users.lending(tmp_path / "a"):
        raise RuntimeError
    assert lend(tmp_path / "b") == ONE
