"""Every constraint each way, with the reason that it gives (DESIGN, Placement; seed, Hard Constraints)."""

import pytest
from cluster import cpu, discrete, jetson

from placement import Infeasible, Instance, Node, place


def reasons(node: Node, *instances: Instance, **options) -> list[str]:
    """Why the only node refuses the last instance; empty when it takes all."""
    try:
        place([node], instances, **options)
    except Infeasible as error:
        return error.rejections[instances[-1].id][node.name]
    return []


def one(**demands) -> Instance:
    return Instance(**{"id": "a", "ram_gb": 1, **demands})


def test_a_healthy_node_takes_an_instance():
    assert reasons(cpu(), one()) == []


@pytest.mark.parametrize("status", ["DEGRADED", "UNAVAILABLE", "MAINTENANCE"])
def test_a_node_that_is_not_healthy_takes_nothing(status):
    assert reasons(cpu(status=status), one()) == [f"status: {status}, not HEALTHY"]


def test_of_an_unavailable_node_its_status_is_the_only_reason():
    assert reasons(cpu(status="UNAVAILABLE", ram_gb=0), one(gpu="required")) == ["status: UNAVAILABLE, not HEALTHY"]


def test_the_last_slot_is_taken_and_none_after_it():
    assert reasons(cpu(current_instances=1), one()) == []
    assert reasons(cpu(current_instances=2), one()) == ["slots: 2 of 2 taken"]
    assert reasons(cpu(max_instances=1), one(id="b", ram_gb=2), one()) == ["slots: 1 of 1 taken"]


def test_all_of_the_free_ram_fits_and_no_more():
    assert reasons(cpu(), one(ram_gb=10)) == []
    assert reasons(cpu(), one(ram_gb=10.25)) == ["ram: needs 10.25 GB, has 10.0 free"]
    assert reasons(cpu(reserved_ram_gb=1, allocated_ram_gb=2.8), one(ram_gb=8)) == ["ram: needs 8.0 GB, has 6.2 free"]


@pytest.mark.parametrize(
    ("ram_gb", "allocated", "needs"), [(8, 7.7, 0.3), (0.3, 0.1, 0.2), (1.1, 0.8, 0.3), (64.1, 63.9, 0.2)]
)
def test_binary_fractions_do_not_refuse_an_exact_fit(ram_gb, allocated, needs):
    assert reasons(cpu(ram_gb=ram_gb, allocated_ram_gb=allocated), one(ram_gb=needs)) == []


def test_three_times_a_fifth_of_a_gb_fits_three_fifths():
    assert reasons(cpu(ram_gb=0.6, max_instances=9), *(one(id=f"i{n}", ram_gb=0.2) for n in range(3))) == []


def test_an_overcommitted_node_has_nothing_free():
    assert reasons(cpu(allocated_ram_gb=12), one()) == ["ram: needs 1.0 GB, has 0.0 free"]


def test_a_required_gpu_must_be_there_and_a_preferred_one_need_not():
    assert reasons(discrete(), one(gpu="required")) == []
    assert reasons(cpu(), one(gpu="required")) == ["gpu: required, has none"]
    assert reasons(cpu(), one(gpu="preferred")) == []


def test_discrete_gpu_memory_is_a_pool_of_its_own():
    assert reasons(discrete(), one(ram_gb=16, gpu="required", gpu_memory_gb=8)) == []
    assert reasons(discrete(), one(gpu="required", gpu_memory_gb=8.5)) == ["gpu_memory: needs 8.5 GB, has 8.0 free"]
    assert reasons(discrete(allocated_gpu_memory_gb=5), one(gpu="preferred", gpu_memory_gb=4)) == [
        "gpu_memory: needs 4.0 GB, has 3.0 free"
    ]


def test_instances_share_the_discrete_gpu_memory():
    first = one(id="first", ram_gb=2, gpu="required", gpu_memory_gb=5)
    assert reasons(discrete(), first, one(gpu="required", gpu_memory_gb=3)) == []
    assert reasons(discrete(), first, one(gpu="required", gpu_memory_gb=4)) == [
        "gpu_memory: needs 4.0 GB, has 3.0 free"
    ]


def test_unified_memory_is_counted_once():
    plan = place([jetson()], [one(ram_gb=12, gpu="required", gpu_memory_gb=12)])
    assert plan.nodes["jetson"].allocated_ram_gb == 12
    plan = place([jetson()], [one(ram_gb=4, gpu="required", gpu_memory_gb=12)])
    assert plan.nodes["jetson"].allocated_ram_gb == 12


def test_unified_memory_is_one_pool_that_the_gpu_cannot_exceed():
    assert reasons(jetson(), one(ram_gb=4, gpu="required", gpu_memory_gb=56)) == []
    assert reasons(jetson(), one(ram_gb=4, gpu="required", gpu_memory_gb=57)) == ["ram: needs 57.0 GB, has 56.0 free"]


def test_unified_memory_may_limit_the_gpus_share():
    assert reasons(jetson(gpu_memory_gb=16), one(gpu="required", gpu_memory_gb=17)) == [
        "gpu_memory: needs 17.0 GB, has 16.0 free"
    ]
    assert reasons(jetson(gpu_memory_gb=0), one(gpu="required", gpu_memory_gb=17)) == []


def test_an_instance_that_leaves_the_gpu_alone_takes_none_of_it():
    plan = place([discrete()], [one(ram_gb=3)])
    assert (plan.nodes["pc"].allocated_ram_gb, plan.nodes["pc"].allocated_gpu_memory_gb) == (3, 0)


def test_on_a_cpu_node_preferred_takes_its_ram_alone():
    assert reasons(cpu(), one(ram_gb=2, gpu="preferred", gpu_memory_gb=99)) == []


@pytest.mark.parametrize("declared_by", ["first", "second", "both"])
def test_anti_affinity_holds_either_way(declared_by):
    first = one(id="first", ram_gb=2, anti_affinity=["second"] if declared_by != "second" else [])
    second = one(id="second", ram_gb=1, anti_affinity=["first"] if declared_by != "first" else [])
    assert reasons(cpu(), first, second) == ["anti_affinity: apart from first"]
    assert len(set(place([cpu("x"), cpu("y")], [first, second]).assignments.values())) == 2


def test_a_pin_elsewhere_refuses_a_node():
    with pytest.raises(Infeasible) as refused:
        place([cpu(), jetson(status="MAINTENANCE")], [one()], pins={"a": "jetson"})
    assert refused.value.rejections == {
        "a": {"cpu": ["pin: pinned to jetson"], "jetson": ["status: MAINTENANCE, not HEALTHY"]}
    }


def test_an_instance_needs_two_ports():
    assert reasons(cpu(), one(), port_range=(9000, 9001)) == []
    assert reasons(cpu(), one(), port_range=(9000, 9000)) == ["ports: needs 2, has 1 free"]
    assert reasons(cpu(used_ports={9001}), one(), port_range=(9000, 9002)) == []
    assert reasons(cpu(used_ports={9000, 9001}), one(), port_range=(9000, 9002)) == ["ports: needs 2, has 1 free"]
    assert reasons(cpu(), one(id="b", ram_gb=2), one(), port_range=(9000, 9002)) == ["ports: needs 2, has 1 free"]


def test_every_failed_constraint_is_named():
    node = cpu(status="DEGRADED", current_instances=2)
    assert [reason.split(":")[0] for reason in reasons(node, one(ram_gb=11, gpu="required"))] == [
        "status",
        "slots",
        "ram",
        "gpu",
    ]
