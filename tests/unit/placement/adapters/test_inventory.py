"""Host variables and measured states become nodes; what is wrong with them is named, all of it."""

import math
from dataclasses import replace

import pytest

from contract.node_state import NodeState
from placement import BadInput, Node, nodes_from_hostvars, port_range_from_hostvars, read_inventory

PI = {"node_type": "raspberry_pi", "ram_gb": 8, "reserved_ram_gb": 1}
IDLE_PI = {
    "status": "HEALTHY",
    "ram_gb": 7.8,
    "cores": 4,
    "gpu": {"present": False, "memory": None, "memory_gb": 0},
    "instances": [],
}
ORIN_GPU = {"present": True, "memory": "unified", "memory_gb": 61.4}


class Tagged(str):
    """As Ansible hands strings over: a subclass of str."""

    __slots__ = ()


def node(variables, *states) -> Node:
    """The node of these host variables, measured if a state is given."""
    measured = {"n": states[0] and NodeState.from_json(states[0], "n")} if states else None
    (only,) = nodes_from_hostvars({"n": variables}, measured)
    return only


def faults(variables, *states):
    with pytest.raises(BadInput) as bad:
        node(variables, *states)
    return [str(fault) for fault in bad.value.faults]


def busy(**instance):
    base = {"run_id": "r", "id": "a", "status": "RUNNING", "ram_gb": 2, "gpu_memory_gb": 0, "uses_gpu": False}
    return {**IDLE_PI, "instances": [{**base, "held_ports": [9000, 9001], **instance}]}


def test_declared_values_alone_make_a_node():
    assert node(PI) == Node(name="n", node_type="raspberry_pi", ram_gb=8, reserved_ram_gb=1)


def test_other_host_variables_are_not_read():
    assert node({**PI, "ansible_host": "x", "ssh_user": "{{ lookup('env', 'USER') }}", "status": "DOWN"}) == node(PI)


def test_numeric_strings_and_tagged_values_are_read_as_what_they_say():
    variables = {
        "ram_gb": Tagged("8"),
        "cpu_cores": "4",
        "max_instances": "2",
        "gpu": Tagged("True"),
        "gpu_memory_gb": "6.5",
    }
    made = node({**variables, "node_type": Tagged("jetson_orin")})
    assert (made.ram_gb, made.cpu_cores, made.max_instances, made.gpu_memory_gb) == (8.0, 4, 2, 6.5)
    assert made.unified
    assert type(made.node_type) is str


def test_nodes_come_in_natural_order():
    assert [n.name for n in nodes_from_hostvars({"rpi10": PI, "rpi2": PI})] == ["rpi2", "rpi10"]


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"ram_gb": -8}, "ram_gb: -8 is not above 0; give the node's RAM in GB (2**30 bytes)"),
        ({"ram_gb": 0}, "ram_gb: 0 is not above 0"),
        ({"ram_gb": math.nan}, "ram_gb: nan is not a finite number"),
        ({"ram_gb": "inf"}, "ram_gb: inf is not a finite number"),
        ({"ram_gb": 1e7}, "ram_gb: 10000000.0 is above 1000000"),
        ({"ram_gb": "plenty"}, "ram_gb: 'plenty' is not a number"),
        ({"ram_gb": True}, "ram_gb: True is not a number"),
        ({"ram_gb": "{{ 4 * 2 }}"}, "ram_gb: '{{ 4 * 2 }}' is a template that nothing has resolved"),
        (
            {"ram_gb": None},
            "ram_gb: missing; give the node's RAM in GB (2**30 bytes), or let the plan playbook measure",
        ),
        ({"reserved_ram_gb": -1}, "reserved_ram_gb: -1 is below 0"),
        ({"reserved_ram_gb": 8}, "reserved_ram_gb: 8 of 8 GB leaves nothing"),
        ({"gpu": "maybe"}, "gpu: 'maybe' is not true or false"),
        ({"gpu": 1}, "gpu: 1 is not true or false"),
        ({"gpu_memory_gb": 4}, "gpu_memory_gb: 4 without a GPU"),
        ({"gpu": True, "gpu_memory_gb": -4}, "gpu_memory_gb: -4 is below 0"),
        ({"gpu_memory": "shared"}, "gpu_memory: 'shared' is none of these; give one of unified, discrete"),
        ({"node_type": "toaster"}, "node_type: 'toaster' is none of these; give one of jetson_orin"),
        ({"max_instances": 0}, "max_instances: 0 is below 1"),
        ({"max_instances": 1.5}, "max_instances: 1.5 is not"),
        ({"cpu_cores": 0}, "cpu_cores: 0 is not above 0"),
        ({"node_maintenance": "soon"}, "node_maintenance: 'soon' is not true or false"),
    ],
)
def test_each_fault_of_a_node_is_reported(variables, fault):
    found = faults({**PI, **variables})
    assert len(found) == 1
    assert found[0].startswith(f"inventory: nodes.n.{fault}")


def test_all_faults_of_all_nodes_are_reported_at_once():
    with pytest.raises(BadInput) as bad:
        nodes_from_hostvars({"rpi1": {**PI, "ram_gb": -8, "gpu": "?"}, "rpi2": {}}, source="inventory/lab")
    assert [(fault.file, fault.key) for fault in bad.value.faults] == [
        ("inventory/lab", "nodes.rpi1.ram_gb"),
        ("inventory/lab", "nodes.rpi1.gpu"),
        ("inventory/lab", "nodes.rpi2.ram_gb"),
    ]


def test_a_group_without_hosts_is_a_fault():
    with pytest.raises(BadInput, match="the group has no hosts"):
        nodes_from_hostvars({})


def test_what_is_left_out_is_filled_from_the_state():
    state = {**IDLE_PI, "ram_gb": 61.4, "cores": 12, "gpu": ORIN_GPU}
    made = node({"node_type": "generic"}, state)
    assert (made.ram_gb, made.cpu_cores, made.gpu, made.gpu_memory_gb, made.unified) == (61.4, 12, True, 61.4, True)
    assert made.status == "HEALTHY"


def test_what_is_declared_stands_against_what_was_measured():
    made = node({**PI, "cpu_cores": 2, "gpu": False}, {**IDLE_PI, "gpu": {**ORIN_GPU, "memory": "discrete"}})
    assert (made.ram_gb, made.cpu_cores, made.gpu) == (8, 2, False)


@pytest.mark.parametrize(
    ("variables", "state", "fault"),
    [
        ({"ram_gb": 8.6}, {}, "ram_gb: 8.6 is more than the 7.8 GB that the node has"),
        ({"cpu_cores": 5}, {}, "cpu_cores: 5 is more than the 4 that the node has"),
        ({"gpu": True}, {}, "gpu: true, but the node has no GPU"),
        ({"gpu": True, "gpu_memory_gb": 70}, {"gpu": ORIN_GPU}, "gpu_memory_gb: 70 is more than the 61.4 GB"),
        (
            {"gpu": True, "gpu_memory": "discrete"},
            {"gpu": ORIN_GPU},
            "gpu_memory: discrete, but the node's memory is un",
        ),
    ],
)
def test_what_is_declared_beyond_what_the_node_has_is_a_fault_unless_simulated(variables, state, fault):
    found = faults({**PI, **variables}, {**IDLE_PI, **state})
    assert len(found) == 1
    assert found[0].startswith(f"inventory: nodes.n.{fault}")
    assert found[0].endswith("or set node_simulated: true")
    simulated = node({**PI, **variables, "node_simulated": True}, {**IDLE_PI, **state})
    assert simulated.status == "HEALTHY"
    assert all(getattr(simulated, key) == value for key, value in variables.items())


def test_several_cards_count_together_and_one_that_cannot_be_used_is_named():
    two = {"present": True, "memory": "discrete", "memory_gb": 48.0, "cards": [24.0, 24.0]}
    assert node({"gpu": True, "gpu_memory_gb": 48}, {**IDLE_PI, "gpu": two}).gpu_memory_gb == 48
    silent = {"present": False, "memory": None, "problem": "its driver does not answer: No devices were found"}
    assert faults({"gpu": True}, {**IDLE_PI, "gpu": silent}) == [
        "inventory: nodes.n.gpu: true, but its GPU cannot be used: its driver does not answer: No devices were found;"
        " correct it, leave it out to use what is measured, or set node_simulated: true"
    ]


def test_ten_percent_of_declared_ram_may_be_kept_by_kernel_and_firmware():
    assert node({**PI, "ram_gb": 8.5}, IDLE_PI).ram_gb == 8.5


def test_a_node_that_did_not_answer_is_unavailable():
    assert node(PI, None).status == "UNAVAILABLE"
    assert node({}, None) == Node(name="n", status="UNAVAILABLE")
    assert nodes_from_hostvars({"n": PI}, {})[0].status == "UNAVAILABLE"


def test_a_measured_status_is_taken_over():
    assert node(PI, {**IDLE_PI, "status": "DEGRADED"}).status == "DEGRADED"


@pytest.mark.parametrize("states", [(), (None,), (IDLE_PI,), ({**IDLE_PI, "status": "DEGRADED"},)])
def test_maintenance_wins_over_all(states):
    assert node({**PI, "node_maintenance": True}, *states).status == "MAINTENANCE"


@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "CRASHED"])
def test_instances_that_may_still_run_hold_memory_slot_and_ports(status):
    made = node(PI, busy(status=status))
    assert (made.current_instances, made.allocated_ram_gb, made.used_ports) == (1, 2, {9000, 9001})


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "STOPPED"])
def test_instances_that_are_done_hold_nothing(status):
    assert node(PI, busy(status=status, held_ports=[])) == node(PI, IDLE_PI)
    observed = node(PI, busy(status=status, held_ports=[9000]))
    assert observed == replace(node(PI, IDLE_PI), used_ports=frozenset({9000})), "its tap still serves"


@pytest.mark.parametrize(
    ("memory", "uses_gpu", "expected"),
    [("unified", True, (6, 6)), ("discrete", True, (2, 6)), ("unified", False, (2, 0)), ("discrete", False, (2, 0))],
)
def test_held_gpu_memory_counts_by_the_nodes_kind_of_memory(memory, uses_gpu, expected):
    variables = {"ram_gb": 64, "gpu": True, "gpu_memory": memory, "gpu_memory_gb": 64, "node_simulated": True}
    made = node(variables, busy(ram_gb=2, gpu_memory_gb=6, uses_gpu=uses_gpu))
    assert (made.allocated_ram_gb, made.allocated_gpu_memory_gb) == expected


def test_the_port_range_is_the_clusters():
    assert port_range_from_hostvars({"n": {}}) == (9000, 9100)
    assert port_range_from_hostvars({"n": {"peer_port_range": {"start": "9200", "end": 9300}}}) == (9200, 9300)


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([{"start": 80, "end": 9000}], "peer_port_range.start: 80 is below 1024"),
        ([{"start": 9100, "end": 9000}], "start 9100 is above end 9000"),
        ([{"start": 9000}], "peer_port_range.end: missing; give a port of 1024 to 65535"),
        ([{"start": 9000, "end": 9100}, {"start": 9001, "end": 9100}], "n0 and n1 differ"),
        (["9000-9100"], "peer_port_range: '9000-9100' is not an object"),
    ],
)
def test_a_port_range_that_is_none_is_refused(ranges, expected):
    with pytest.raises(BadInput) as bad:
        port_range_from_hostvars({f"n{i}": {"peer_port_range": value} for i, value in enumerate(ranges)})
    assert expected in str(bad.value)


def test_an_inventory_is_read_through_its_nested_groups_with_templates_left_alone(tmp_path):
    (tmp_path / "hosts.yml").write_text(
        """
nodes: {children: {pis: {hosts: {rpi1: {ram_gb: 8, ssh_user: "{{ nobody_knows }}"}}}}}
others: {hosts: {printer: {ram_gb: -1}}}
"""
    )
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "pis.yml").write_text("reserved_ram_gb: 1")
    hostvars = read_inventory(str(tmp_path / "hosts.yml"), tmp_path)
    assert list(hostvars) == ["rpi1"]
    assert nodes_from_hostvars(hostvars) == [Node(name="rpi1", ram_gb=8, reserved_ram_gb=1)]


def test_the_projects_configuration_counts_wherever_it_is_run(tmp_path, monkeypatch):
    (tmp_path / "hosts.yml").write_text("nodes: {vars: {ram_gb: 4}, hosts: {n: {}}}")
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "nodes.yml").write_text("ram_gb: 8")
    other = tmp_path / "elsewhere" / "group_vars"
    other.mkdir(parents=True)
    (other / "nodes.yml").write_text("ram_gb: 16")  # the project's; the inventory's own stand above it
    monkeypatch.chdir(other.parent)
    monkeypatch.setenv("ANSIBLE_CONFIG", str(tmp_path / "none.cfg"))
    assert [node.ram_gb for node in nodes_from_hostvars(read_inventory(str(tmp_path / "hosts.yml")))] == [8]


def test_an_inventory_that_is_missing_or_broken_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read_inventory(str(tmp_path / "no"))
    (tmp_path / "hosts.yml").write_text("nodes: [")
    with pytest.raises(BadInput, match="ansible-inventory cannot read it"):
        read_inventory(str(tmp_path / "hosts.yml"))
