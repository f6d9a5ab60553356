"""The units of an instance, as text. (systemd itself reads them in the integration tests.)"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.description import InstanceDescription, Resources
from contract.launch_spec import Inbound, LaunchSpec, Limits, Outbound, Process
from node import private_network, quoting, sandbox, units
from node.errors import NodeError

RUN = "x_20261123T141500Z_3f2a"
PREFIX = f"jarfleet-{RUN}-a"
PYTHON = ("/usr/bin/python3", "-m")


def spec(work_dir: str = "/home/pi/jar", **changes: Any) -> LaunchSpec:
    folder = f"{work_dir}/instances/{RUN}/a"
    model = {"path": f"{work_dir}/models/m.gguf", "sha256": "m"}
    made = LaunchSpec(
        description=InstanceDescription(RUN, "a", Path(folder), "http://127.0.0.1:9001", model=model),
        work_dir=work_dir,
        release_dir=f"{work_dir}/releases/r",
        owner="pi",
        workload=Process((*PYTHON, "workload"), f"{work_dir}/releases/r", ("localhost", "10.0.0.1")),
        llama_server=Process(("--port", "9001"), folder, ("localhost",)),
        limits=Limits(memory_bytes=2**31, cpu_percent=150),
        restart=True,
    )
    return replace(made, **changes)


GROUP = f"jarfleet.slice/jarfleet-{RUN}.slice/{PREFIX}.slice"
SANDBOX = "\n".join(sandbox.directives())
HOOK = "/usr/bin/nsenter --target 1 --mount /usr/bin/python3 -I /opt/jarfleet/node.pyz"
WORKLOAD = f"""\
[Unit]
Description=Jarfleet {RUN} a workload
# What has ended stays ended, also when the node starts again.
ConditionPathExists=!/home/pi/jar/instances/{RUN}/a/outcome.json
# Its code does not run where its isolation does not hold.
Requires={PREFIX}-probe.service
Wants={PREFIX}-llama.service network-online.target
After={PREFIX}-probe.service {PREFIX}-llama.service network-online.target dbus.service
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
WorkingDirectory=/home/pi/jar/releases/r
Environment=JARFLEET_INSTANCE=/home/pi/jar/instances/{RUN}/a/instance.json
Environment=PYTHONPATH=/home/pi/jar/releases/r
Environment=PYTHONUNBUFFERED=1
Environment=PYTHONDONTWRITEBYTECODE=1
ExecStart="/usr/bin/python3" "-m" "workload"
RestartSec=1
TimeoutStopSec=15

{SANDBOX}
# Scratch space in its own memory.
TemporaryFileSystem=/tmp:mode=1777,size=256M /var/tmp:mode=1777,size=256M /dev/shm:mode=1777,size=256M
# Of the work dir what it runs and its folder; no socket, log or unit; no control group but its slice's.
TemporaryFileSystem=/home/pi/jar:ro /run:ro /var/log:ro /etc/systemd/system:ro /sys/fs/cgroup:ro
BindReadOnlyPaths=/home/pi/jar/releases/r
BindReadOnlyPaths=-/sys/fs/cgroup/{GROUP} -/sys/fs/cgroup/memory/{GROUP}
# Root's own records, made outside of the sandbox.
ExecStartPre=-+{HOOK} started /home/pi/jar/instances/{RUN}/a workload
ExecStopPost=+{HOOK} ended /home/pi/jar/instances/{RUN}/a workload
Restart=on-failure
RestartPreventExitStatus=69 78
Slice={PREFIX}.slice
User=jarfleet01
BindPaths=/home/pi/jar/instances/{RUN}/a
ReadWritePaths=/home/pi/jar/instances/{RUN}/a
BindReadOnlyPaths=/home/pi/jar/models/m.gguf
OOMPolicy=continue
LimitFSIZE=4294967296
LogRateLimitIntervalSec=10s
LogRateLimitBurst=2000
IPAddressDeny=any
IPAddressAllow=localhost 10.0.0.1

[Install]
WantedBy=multi-user.target
"""


def test_the_unit_of_a_workload() -> None:
    assert units.render(spec(), "/opt/llama.cpp/k", "jarfleet01")[f"{PREFIX}-workload.service"] == WORKLOAD


def test_what_is_tried_before_the_code_runs_is_tried_in_a_unit_like_the_codes() -> None:
    ways = {"inbound": Inbound(8101, ("10.0.0.2",)), "private_network": True}
    made = units.render(spec(**ways), "/opt/llama.cpp/k", "jarfleet01")
    workload, probe = (made[f"{PREFIX}-{name}.service"].partition("[Service]")[2] for name in ("workload", "probe"))
    only = {name: set(one.splitlines()) - set(other.splitlines()) for name, one, other in (
        ("workload", workload, probe), ("probe", probe, workload)
    )}  # fmt: skip
    assert {line.partition("=")[0].lstrip("# ") for line in only["workload"]} == {
        "ExecStart", "ExecStartPre", "ExecStopPost", "Restart", "RestartPreventExitStatus", "WantedBy", "[Install]",
        "Root's own records, made outside of the sandbox.",
    }  # fmt: skip
    assert {line.partition("=")[0] for line in only["probe"]} == {
        "ExecStart", "Type", "RemainAfterExit", "StandardInput", "StandardOutput",
    }  # fmt: skip


def test_an_instance_has_a_slice_with_its_limits_and_its_services() -> None:
    made = units.render(spec(), "/opt/llama.cpp/k", "jarfleet01")
    services = {f"{PREFIX}-{name}.service" for name in ("llama", "workload", "probe", "guard")}
    assert set(made) == {f"{PREFIX}.slice", *services}
    for line in ("MemoryMax=2147483648", "MemorySwapMax=0", "CPUQuota=150%", "TasksMax=512"):
        assert line in made[f"{PREFIX}.slice"].splitlines()
    llama = made[f"{PREFIX}-llama.service"].splitlines()
    assert 'ExecStart="/opt/llama.cpp/k/bin/llama-server" "--port" "9001"' in llama
    assert "StopWhenUnneeded=yes" in llama
    assert "IPAddressAllow=localhost" in llama
    assert "[Install]" not in llama


def test_each_part_of_a_model_can_be_read() -> None:
    first = "/home/pi/jar/models/m-00001-of-00002.gguf"
    whole = spec()
    parts = replace(whole, description=replace(whole.description, model={"path": first, "sha256": "m"}))
    made = units.render(parts, "/opt/llama.cpp/k", "jarfleet01")
    for unit in ("llama", "workload"):
        second = "/home/pi/jar/models/m-00002-of-00002.gguf"
        assert f"BindReadOnlyPaths={first} {second}" in made[f"{PREFIX}-{unit}.service"].splitlines()


def test_an_observed_instance_has_a_network_of_its_own_and_a_relay_outside_of_it() -> None:
    relay = Process((*PYTHON, "workload.stream_relay"), "/home/pi/jar/releases/r", ("10.0.0.1", "10.0.0.2"))
    made = units.render(spec(private_network=True, relay=relay), "/opt/llama.cpp/k", "jarfleet01")
    for unit in ("llama", "workload"):
        lines = made[f"{PREFIX}-{unit}.service"].splitlines()
        assert f"JoinsNamespaceOf={PREFIX}-llama.service" in lines
        assert "PrivateNetwork=yes" in lines
        assert "ProtectProc=invisible" in lines
    lines = made[f"{PREFIX}-relay.service"].splitlines()
    assert "PrivateNetwork=yes" not in lines
    assert "DynamicUser=yes" in lines
    assert f"BindReadOnlyPaths=/home/pi/jar/instances/{RUN}/a" in lines
    assert not [line for line in lines if line.startswith(("BindPaths", "ReadWritePaths", "User="))]
    assert "IPAddressAllow=10.0.0.1 10.0.0.2" in lines


def test_a_private_network_is_joined_to_exactly_the_peers() -> None:
    peers = replace(spec().description, peers={"b": "http://127.0.0.1:9101"})
    ways = {"inbound": Inbound(8101, ("10.0.0.2",)), "outbound": (Outbound("b", 9101, "fd00::2", 8104),)}
    made = units.render(spec(description=peers, private_network=True, **ways), "/opt", "jarfleet01")
    workload = made[f"{PREFIX}-workload.service"].splitlines()
    probe = f"{PREFIX}-probe.service"
    sockets = f"{PREFIX}-in.socket {PREFIX}-to_b.socket"
    assert f"Wants={PREFIX}-llama.service {sockets} network-online.target" in workload
    assert f"After={probe} {PREFIX}-llama.service {sockets} network-online.target dbus.service" in workload
    assert f"StandardInput=file:/var/lib/jarfleet/credentials/{RUN}-a-workload.json" in workload
    inbound, outbound = (made[f"{PREFIX}-{name}.socket"].splitlines() for name in ("in", "to_b"))
    assert {"ListenStream=8101", "IPAddressDeny=any", "IPAddressAllow=10.0.0.2"} <= set(inbound)
    assert "PrivateNetwork=yes" not in inbound
    assert {"DefaultDependencies=no", f"After={PREFIX}-llama.service"} <= set(inbound) & set(outbound)
    joined = {"PrivateNetwork=yes", f"JoinsNamespaceOf={PREFIX}-llama.service"}
    assert {"ListenStream=127.0.0.1:9101", *joined} <= set(outbound)
    inbound, outbound = (made[f"{PREFIX}-{name}.service"].splitlines() for name in ("in", "to_b"))
    assert {f"ExecStart={private_network.PROXY} 127.0.0.1:8101", "DynamicUser=yes", *joined} <= set(inbound)
    assert {f"ExecStart={private_network.PROXY} fd00::2:8104", "IPAddressAllow=fd00::2"} <= set(outbound)
    assert "PrivateNetwork=yes" not in outbound


def test_only_llama_server_sees_devices_and_only_with_a_gpu() -> None:
    with_gpu = replace(spec().description, resources=Resources(uses_gpu=True))
    for description, llama in ((spec().description, "yes"), (with_gpu, "no")):
        made = units.render(replace(spec(), description=description), "/opt", "jarfleet01")
        assert f"PrivateDevices={llama}" in made[f"{PREFIX}-llama.service"].splitlines()
        assert "PrivateDevices=yes" in made[f"{PREFIX}-workload.service"].splitlines()


def test_an_instance_may_be_left_dead_and_may_reach_everybody() -> None:
    anybody = replace(spec().workload, allowed_addresses=None)
    lines = units.render(spec(restart=False, workload=anybody), "/opt", "jarfleet01")[
        f"{PREFIX}-workload.service"
    ].splitlines()
    assert "Restart=no" in lines
    assert not [line for line in lines if line.startswith("IPAddress")]
    assert "BindReadOnlyPaths=-/run/systemd/resolve/stub-resolv.conf" in lines, "it looks names up"


def test_restarts_are_as_the_experiment_says() -> None:
    lines = units.render(spec(starts=20, within_seconds=600.5), "/opt", "jarfleet01")[f"{PREFIX}-workload.service"]
    assert "StartLimitIntervalSec=600.5\nStartLimitBurst=20\n" in lines


def test_variables_reach_the_program_and_nothing_that_root_runs() -> None:
    given = {"LD_PRELOAD": "/home/pi/evil.so", "TWO": 'line\nbreak $HOME %h "q"'}
    text = units.render(spec(environment=given), "/opt", "jarfleet01")[f"{PREFIX}-workload.service"]
    (start,) = [line for line in text.splitlines() if "LD_PRELOAD" in line]
    assert start == (
        'ExecStart="/usr/bin/env" "LD_PRELOAD=/home/pi/evil.so" "TWO=line\\x0abreak $$HOME %%h \\"q\\""'
        ' "/usr/bin/python3" "-m" "workload"'
    )
    with pytest.raises(NodeError, match="is not a variable's name"):
        units.render(spec(environment={"-S sh": "x"}), "/opt", "jarfleet01")


def test_a_command_keeps_its_words_whatever_is_in_them() -> None:
    words = (
        "/bin/echo",
        "two words",
        'a "quote"',
        "$HOME",
        "100%",
        "back\\slash",
        "line\nbreak",
        "carriage\rreturn",
        "it's",
    )
    assert quoting.exec_line(words) == (
        '"/bin/echo" "two words" "a \\"quote\\"" "$$HOME" "100%%" "back\\\\slash" "line\\x0abreak"'
        ' "carriage\\x0dreturn" "it\'s"'
    )


def test_a_work_dir_of_any_name_is_quoted_for_each_directive() -> None:
    lines = units.render(spec("/srv/it's 100%h"), "/opt", "jarfleet01")[f"{PREFIX}-workload.service"].splitlines()
    folder = f"/srv/it's 100%%h/instances/{RUN}/a"
    assert "WorkingDirectory=/srv/it's 100%%h/releases/r" in lines, "the rest of the line is the path"
    assert f"ConditionPathExists=!{folder}/outcome.json" in lines
    assert f'Environment="JARFLEET_INSTANCE={folder}/instance.json"' in lines
    assert f'BindPaths="{folder}"' in lines, "a word of a list"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"work_dir": "/srv/a\nUser=root"}, "has a control character"),
        ({"workload": Process(("x",), "/", ("evil\nUser=root",))}, "neither an IP address nor localhost"),
        ({"workload": Process(("x",), "/", ("example.org",))}, "neither an IP address nor localhost"),
        ({"workload": Process(("x",), "/a\nUser=root")}, "has a control character"),
        ({"inbound": Inbound(1, ("evil\nUser=root",))}, "neither an IP address nor localhost"),
        ({"outbound": (Outbound("b", 1, "evil\nUser=root", 1),)}, "neither an IP address nor localhost"),
        ({"outbound": (Outbound("b\nUser=root", 1, "10.0.0.1", 1),)}, "is not an instance id"),
    ],
)
def test_what_could_become_another_directive_is_rejected(changes: dict[str, Any], fault: str) -> None:
    work_dir = changes.pop("work_dir", "/home/pi/jar")
    with pytest.raises(NodeError, match=fault):
        units.render(spec(work_dir, **changes), "/opt", "jarfleet01")


@pytest.mark.parametrize("user", ["pi\nUser=root", "two words", ""])
def test_what_is_no_user_is_rejected(user: str) -> None:
    with pytest.raises(NodeError, match="not the name of a user"):
        units.render(spec(), "/opt", user)


def test_a_run_id_that_is_none_is_rejected() -> None:
    made = spec()
    wrong = replace(made, description=replace(made.description, run_id="../../etc/x"))
    with pytest.raises(NodeError, match="are not a run id and an instance id"):
        units.render(wrong, "/opt", "jarfleet01")


NASTY = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@given(words=st.lists(NASTY, min_size=1, max_size=4))
def test_no_word_of_a_command_becomes_another_line(words: list[str]) -> None:
    made = units.render(spec(workload=Process(tuple(words), "/w", None)), "/opt", "jarfleet01")
    lines = made[f"{PREFIX}-workload.service"].split("\n")
    ordinary = units.render(spec(workload=Process(("x",), "/w", None)), "/opt", "jarfleet01")
    expected = ordinary[f"{PREFIX}-workload.service"].split("\n")
    assert [line for line in lines if not line.startswith("ExecStart=")] == [
        line for line in expected if not line.startswith("ExecStart=")
    ]
    (command,) = (line for line in lines if line.startswith("ExecStart="))
    assert not quoting.CONTROL.search(command)


@given(path=NASTY)
def test_a_work_dir_is_one_word_or_rejected(path: str) -> None:
    try:
        made = units.render(spec(f"/srv/{path}"), "/opt", "jarfleet01")
    except NodeError:
        assert quoting.CONTROL.search(path)
        return
    assert len(made[f"{PREFIX}-workload.service"].split("\n")) == len(WORKLOAD.split("\n"))
