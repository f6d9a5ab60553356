"""The text of the loop's unit, and what it is given of the environment; that it works is shown on a node."""

from pathlib import Path

import pytest

from fleet.base.errors import ControlError
from fleet.control.systemd_unit import SystemdUnit, environment, text


def test_what_stands_in_it_is_quoted() -> None:
    unit = text(Path("/s/my lab 100% $HOME"), "/p q", own=True)
    assert '"-m" "fleet.control" "/s/my lab 100%% $$HOME"' in unit
    assert "WorkingDirectory=/p q\n" in unit
    assert "EnvironmentFile=/s/my lab 100%% $HOME/environment\n" in unit
    assert "WantedBy=default.target" in unit
    assert "WantedBy=multi-user.target" in text(Path("/s"), "/p", own=False)
    with pytest.raises(ControlError, match="control character"):
        text(Path("/s"), "/p\nExecStartPre=/bin/sh", own=False)


def test_it_is_given_what_playbooks_need_and_nothing_of_the_login() -> None:
    given = environment({
        "PATH": "/v/bin:/bin", "ANSIBLE_CONFIG": 'a "b" \\', "SSH_AUTH_SOCK": "/run/agent", "XDG_RUNTIME_DIR": "/run/1",
        "XDG_STATE_HOME": "/s", "SECRET": "x", "JARFLEET_RUNS": "/r", "LC_ALL": "C.UTF-8",
    })  # fmt: skip
    assert given.splitlines() == [
        'ANSIBLE_CONFIG="a \\"b\\" \\\\"', 'JARFLEET_RUNS="/r"', 'LC_ALL="C.UTF-8"', 'PATH="/v/bin:/bin"',
        'XDG_STATE_HOME="/s"',
    ]  # fmt: skip
    with pytest.raises(ControlError):
        environment({"PATH": "/bin\nLD_PRELOAD=/x"})


def test_where_the_unit_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    assert str(SystemdUnit(Path("/s/lab"), own=False).path) == "/etc/systemd/system/jarfleet-control-lab.service"
    assert str(SystemdUnit(Path("/s/lab"), own=True).path) == "/c/systemd/user/jarfleet-control-lab.service"
