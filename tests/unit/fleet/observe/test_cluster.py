"""What Ansible's variables say of the cluster: read once, and one place for each fact."""

from typing import Any

import pytest

from contract.promises import PROMISES
from fleet.observe.cluster import Cluster
from fleet.observe.tables import node_table

NODE = {
    "ssh_user": "pi",
    "remote_work_dir": "/w",
    "llama_cpp_build": "x",
    "llama_cpp_builds": {"x": {"server_args": ["-ngl", 99]}},
    "ram_gb": 8,
    "inventory_file": "inventory/lab/hosts.yml",
}
ALL_KEPT = {"kept": dict.fromkeys(PROMISES, True)}
FAILOVER = "enabled, auto_restart, most_lost_percent, checkpoint_interval_seconds, checkpoint_store"
STATE = {"status": "HEALTHY", "ram_gb": 8.0, "cores": 4, "address": "10.0.0.5", "promises": ALL_KEPT}


def cluster(**nodes: dict[str, Any]) -> Cluster:
    return Cluster.from_hostvars({name: {**NODE, **variables} for name, variables in nodes.items()})


def measured(state: Any) -> dict[str, Any]:
    return {"node_probe": {"state": state}}


def test_a_node_is_read_with_what_it_measured() -> None:
    made = cluster(a=measured(STATE), b={})
    assert made.source == "inventory/lab/hosts.yml"
    assert made.statuses == {"a": "HEALTHY", "b": "UNAVAILABLE"}
    assert made.silent == ["b"]
    host = made.host("a")
    assert (host.owner, host.work_dir, host.address, host.cores) == ("pi", "/w", "10.0.0.5", 4)
    assert host.gpu_arguments == ("-ngl", "99")


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"node_address": "10.9.9.9", "ansible_host": "10.0.0.1"}, "10.9.9.9"),
        ({"ansible_host": "10.0.0.1"}, "10.0.0.1"),
        ({"ansible_host": "rpi1.local"}, "10.0.0.5"),
        ({"ansible_host": "127.0.0.1"}, "10.0.0.5"),
    ],
)
def test_the_address_is_the_declared_one_then_ansibles_then_the_measured_one(
    variables: dict[str, Any], address: str
) -> None:
    assert cluster(a={**variables, **measured(STATE)}).host("a").address == address


@pytest.mark.parametrize(
    ("maintenance", "status"), [(True, "MAINTENANCE"), ("true", "MAINTENANCE"), ("false", "HEALTHY")]
)
def test_maintenance_means_the_same_to_the_plan_and_to_the_table(maintenance: Any, status: str) -> None:
    """The text "false", which is what -e gives, was MAINTENANCE to the table and not to the plan."""
    made = cluster(a={"node_maintenance": maintenance, **measured(STATE)})
    assert made.statuses["a"] == status
    assert made.nodes[0].status == status
    assert node_table(made.hostvars, made.states).splitlines()[1].split()[2] == status


@pytest.mark.parametrize(
    "state", [[1, 2], {"status": "FINE"}, {**STATE, "instances": [{"id": 5}]}, {**STATE, "cores": "4"}]
)
def test_a_node_whose_answer_is_nonsense_is_unavailable_with_the_reason(state: Any) -> None:
    made = cluster(a=measured(state), b=measured(STATE))
    assert made.statuses == {"a": "UNAVAILABLE", "b": "HEALTHY"}
    assert made.state_faults["a"].startswith("a: ")


def test_a_run_that_is_resumed_takes_no_room_from_itself() -> None:
    instances = [{"run_id": run, "id": "a", "status": "RUNNING"} for run in ("mine", "other")]
    found = cluster(n=measured({**STATE, "instances": instances}), silent={}).without_run("mine")
    assert found.states["n"]
    assert [one.run_id for one in found.states["n"].instances] == ["other"]
    assert found.states["silent"] is None


def test_a_setting_of_the_whole_cluster_is_read_once() -> None:
    settings = {"failover": {"enabled": True, "auto_restart": False}}
    assert cluster(a=settings, b=settings).settings.auto_restart is False
    assert cluster(a={}).settings.auto_restart is True


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        (
            {"health_check": {"interval_seconds": 0}},
            "health_check.interval_seconds: 0 is no interval; give seconds above 0",
        ),
        ({"health_check": {"interval_seconds": -1.5}}, "health_check.interval_seconds: -1.5 is no interval"),
        ({"peer_port_range": {"start": 9100, "end": 9000}}, "peer_port_range: start 9100 is above end 9000; swap them"),
    ],
)
def test_a_setting_of_the_whole_cluster_that_cannot_be_is_a_fault(variables: dict[str, Any], fault: str) -> None:
    (found,) = cluster(a=variables, b=variables).faults()
    assert fault in str(found)


def test_nodes_that_differ_on_a_setting_of_the_whole_cluster_are_a_fault() -> None:
    made = cluster(a={"failover": {"auto_restart": True}}, b={"failover": {"auto_restart": False}})
    assert [str(fault) for fault in made.faults()] == [
        "inventory/lab/hosts.yml: failover: nodes a and b differ on it; give one for all"
    ]


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"ssh_user": ""}, "nodes.a.ssh_user: missing; declare it for the node or its group"),
        ({"llama_cpp_build": "y"}, "nodes.a.llama_cpp_build: 'y' is none of x"),
        ({"failover": {"auto_restrat": True}}, f"failover.auto_restrat: unknown; known are {FAILOVER}"),
        ({"health_check": {"interval_seconds": "30"}}, "health_check.interval_seconds: '30' is of the wrong type"),
        ({"failover": {"checkpoint_store": "b"}}, "failover.checkpoint_store: 'b' is no node; there are a"),
        ({"failover": [1]}, f"failover: [1] is not a mapping of {FAILOVER}"),
    ],
)
def test_each_fault_of_the_variables_that_launching_needs_is_named(variables: dict[str, Any], fault: str) -> None:
    assert [str(found) for found in cluster(a=variables).faults()] == [f"inventory/lab/hosts.yml: {fault}"]


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"ssh_user": "pi\nUser=root"}, "nodes.a.ssh_user: 'pi\\nUser=root' is not the name of a user"),
        ({"ssh_user": "-oProxyCommand=x"}, "nodes.a.ssh_user: '-oProxyCommand=x' is not the name of a user"),
        ({"remote_work_dir": "/"}, "nodes.a.remote_work_dir: '/' is a folder of the system's"),
        ({"remote_work_dir": "/etc/jarfleet"}, "nodes.a.remote_work_dir: '/etc/jarfleet' is a folder of the system's"),
        (
            {"remote_work_dir": "/home/pi/../../etc"},
            "nodes.a.remote_work_dir: '/home/pi/../../etc' is not in its shortest",
        ),
        ({"remote_work_dir": "rel/x"}, "nodes.a.remote_work_dir: 'rel/x' is not an absolute path"),
        ({"remote_work_dir": "~/jar"}, "nodes.a.remote_work_dir: '~/jar' is not an absolute path"),
        ({"remote_work_dir": "/srv/a:b"}, "nodes.a.remote_work_dir: '/srv/a:b' holds a control character, a colon"),
        ({"remote_work_dir": "/srv/a\rb"}, "nodes.a.remote_work_dir: '/srv/a\\rb' holds a control character"),
        ({"remote_work_dir": "/srv/\ud800"}, "nodes.a.remote_work_dir: '/srv/\\ud800' holds a control character"),
        ({"node_address": "example.org"}, "nodes.a.node_address: 'example.org' is not an IP address"),
        ({"node_address": "10.0.0.1\nUser=root"}, "nodes.a.node_address: '10.0.0.1\\nUser=root' is not an IP address"),
    ],
)
def test_a_value_that_would_reach_a_unit_a_path_or_a_command_is_checked(variables: dict[str, Any], fault: str) -> None:
    (found,) = cluster(a=variables).faults()
    assert str(found).startswith(f"inventory/lab/hosts.yml: {fault}")


def test_a_node_cannot_be_called_as_the_controller() -> None:
    (found,) = cluster(localhost={}).faults()
    assert "nodes.localhost: the name of the controller itself" in str(found)


@pytest.mark.parametrize("name", ["a\x1b[31m", "a b", "../a", "-a", "", "é", "a@b"])
def test_a_host_of_a_nasty_name_is_a_fault(name: str) -> None:
    (found,) = cluster(**{name: {}}).faults()
    assert "rename the host" in str(found)
    assert "\x1b" not in str(found)


@pytest.mark.parametrize(
    ("promise", "status"),
    [("memory_limit", "DEGRADED"), ("private_network", "DEGRADED"), ("cpu_limit", "HEALTHY"), ("other", "HEALTHY")],
)
def test_a_node_that_cannot_promise_what_instances_need_gets_none(promise: str, status: str) -> None:
    kept = {"kept": {**ALL_KEPT["kept"], promise: False}}
    state = {**STATE, "promises": None}
    asked = {"node_promised": {"promises": kept}}
    for variables in (measured({**STATE, "promises": kept}), {**measured(state), **asked}):
        made = cluster(a=variables)
        assert made.statuses["a"] == status
        accepted = cluster(a={**variables, "accept_weaker_isolation": "true"})
        assert accepted.statuses["a"] == "HEALTHY"
    if status == "DEGRADED":
        assert PROMISES[promise].cure in made.states["a"].reasons[0]
        assert "accept_weaker_isolation=true" in made.states["a"].reasons[1]


def test_a_node_that_cannot_say_what_it_promises_gets_none() -> None:
    unknown = {**STATE, "promises": None, "program": "5f"}
    made = cluster(a={**measured(unknown), "node_promised": {"failed": True, "msg": "no sudo"}})
    assert made.statuses["a"] == "DEGRADED"
    old, unknown = made.states["a"].reasons[:2]
    assert old.startswith("its program is another version's")
    assert unknown == "what it can promise is not known: no sudo"


def test_a_new_node_is_asked_later_and_one_whose_program_is_old_gets_nothing() -> None:
    new = measured({**STATE, "promises": None})
    assert cluster(a=new).statuses["a"] == "HEALTHY"
    made = cluster(a={**measured(STATE), "node_programmed": {"failed": True, "msg": "x\nsudo: a password is required"}})
    assert made.statuses["a"] == "DEGRADED"
    assert made.states["a"].reasons[0].endswith("to this version: sudo: a password is required")


def test_what_is_neither_true_nor_false_is_a_fault() -> None:
    faults = cluster(a={**measured(STATE), "accept_weaker_isolation": "perhaps"}).faults()
    assert [fault.key for fault in faults] == ["nodes.a.accept_weaker_isolation"]
