"""Order, ties, pins, ports, all or nothing, and the plan itself."""

import itertools
import json

import pytest
from cluster import cpu, discrete, jetson

from placement import BadInput, Infeasible, Instance, Node, Plan, place


def one(**demands) -> Instance:
    return Instance(**{"id": "a", "ram_gb": 1, **demands})


def test_gpu_comes_first_then_ram_descending_then_file_order():
    instances = [
        one(id="small", ram_gb=1),
        one(id="big", ram_gb=5),
        one(id="big_too", ram_gb=5),
        one(id="likes", gpu="preferred"),
        one(id="needs", gpu="required"),
    ]
    plan = place([discrete(max_instances=9)], instances)
    assert list(plan.nodes["pc"].placed) == ["needs", "likes", "big", "big_too", "small"]
    assert list(plan.assignments) == ["small", "big", "big_too", "likes", "needs"]  # the file's order


def test_a_tie_goes_to_the_preferred_node():
    # 10 (tight) + 20 + 5 + 10 against 20 (loose) + 20 + 5, and the loose one would win every other tie
    nodes = [cpu("wanted", ram_gb=8), cpu("roomy", ram_gb=28)]
    plan = place(nodes, [one(ram_gb=7, preferred_node="wanted")])
    scores = {name: verdict.score for name, verdict in plan.instances["a"].nodes.items()}
    assert scores == {"roomy": 45, "wanted": 45}
    assert plan.assignments == {"a": "wanted"}


def test_a_tie_goes_to_the_gpu_match_before_the_smaller_node():
    gpu = discrete("gpu", ram_gb=64, max_instances=4, current_instances=1)  # 20 + 15 + 15
    small = cpu("small", ram_gb=30, max_instances=2)  # 30 + 20 + 0
    plan = place([small, gpu], [one(ram_gb=12, gpu="preferred")])
    assert {verdict.score for verdict in plan.instances["a"].nodes.values()} == {50}
    assert plan.assignments == {"a": "gpu"}


def test_a_tie_goes_to_the_node_with_the_least_free_ram():
    assert place([cpu("a1", ram_gb=32), cpu("z9", ram_gb=16)], [one()]).assignments == {"a": "z9"}


def test_a_tie_goes_to_the_first_name_in_natural_order():
    assert place([cpu("rpi10"), cpu("rpi2")], [one()]).assignments == {"a": "rpi2"}


def test_a_tie_of_thirds_is_a_tie():
    # 20 - 20/3 against 20 - 2 * 20/6: equal, though not as binary fractions
    nodes = [cpu("b", max_instances=6, current_instances=2), cpu("a", max_instances=3, current_instances=1)]
    assert place(nodes, [one()]).assignments == {"a": "a"}


def test_a_pin_binds_against_the_score():
    plan = place([jetson(), cpu()], [one(gpu="preferred", preferred_node="jetson")], pins={"a": "cpu"})
    assert plan.assignments == {"a": "cpu"}
    assert plan.instances["a"].nodes["jetson"].rejected == ["pin: pinned to cpu"]


def test_a_pin_is_checked_against_every_constraint():
    with pytest.raises(Infeasible) as refused:
        place([jetson(), cpu()], [one(gpu="required")], pins={"a": "cpu"})
    assert refused.value.rejections["a"]["cpu"] == ["gpu: required, has none"]


def test_a_pin_of_an_unknown_instance_or_node_is_bad_input_with_a_hint():
    with pytest.raises(BadInput) as bad:
        place([jetson(), cpu()], [one(id="observer")], pins={"observr": "jetson", "observer": "jetsn"})
    assert [str(fault) for fault in bad.value.faults] == [
        "placement: observr:jetson: no instance is named 'observr'; did you mean 'observer'?",
        "placement: observer:jetsn: no node is named 'jetsn'; did you mean 'jetson'?",
    ]


def test_names_given_twice_are_bad_input():
    with pytest.raises(BadInput) as bad:
        place([cpu(), cpu()], [one(), one()])
    assert len(bad.value.faults) == 2


def test_an_unknown_strategy_is_a_value_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match="greedy"):
        place([cpu()], [one()], strategy="best")


@pytest.mark.parametrize(
    "make",
    [
        lambda: cpu(ram_gb=-8),
        lambda: cpu(ram_gb=float("nan")),
        lambda: cpu(reserved_ram_gb=float("inf")),
        lambda: cpu(max_instances=0),
        lambda: cpu(status="FINE"),
        lambda: cpu(gpu_memory="shared"),
        lambda: cpu(node_type="toaster"),
        lambda: one(ram_gb=0),
        lambda: one(ram_gb=1e7),
        lambda: one(gpu="yes"),
        lambda: one(network="lan"),
    ],
)
def test_nodes_and_instances_that_cannot_be_are_refused_when_made(make):
    with pytest.raises(BadInput):
        make()


def test_memory_is_unified_on_a_jetson_and_discrete_elsewhere_unless_declared():
    assert jetson().unified
    assert not discrete().unified
    assert discrete(gpu_memory="unified").unified
    assert not jetson(gpu_memory="discrete").unified


def test_ports_are_the_lowest_free_ones_of_each_node():
    instances = [one(id="a", ram_gb=3), one(id="b", ram_gb=2), one(id="c", ram_gb=1)]
    pins = {"a": "x", "b": "x", "c": "y"}
    plan = place([cpu("x", used_ports={9000, 9002}), cpu("y")], instances, pins=pins)
    assert plan.ports == {
        "a": {"peer": 9001, "llama": 9003},
        "b": {"peer": 9004, "llama": 9005},
        "c": {"peer": 9000, "llama": 9001},
    }


def test_a_plan_is_all_or_nothing_and_names_every_refused_instance():
    instances = [one(id="fits", ram_gb=6), one(id="huge", ram_gb=90), one(id="gpu", gpu="required")]
    with pytest.raises(Infeasible) as refused:
        place([cpu()], instances)
    assert refused.value.rejections == {
        "gpu": {"cpu": ["gpu: required, has none"]},
        "huge": {"cpu": ["ram: needs 90.0 GB, has 10.0 free"]},
    }
    assert str(refused.value).splitlines() == [
        "no plan: no node takes gpu, huge",
        "gpu:",
        "  cpu  gpu: required, has none",
        "huge:",
        "  cpu  ram: needs 90.0 GB, has 10.0 free",
    ]


def test_without_nodes_there_is_no_plan_and_without_instances_an_empty_one():
    with pytest.raises(Infeasible, match="there are no nodes"):
        place([], [one()])
    assert place([cpu()], []).assignments == {}


def test_other_runs_instances_count():
    busy = cpu("busy", current_instances=1, allocated_ram_gb=8)
    plan = place([busy, cpu("idle")], [one(ram_gb=3)])
    assert plan.instances["a"].nodes["busy"].rejected == ["ram: needs 3.0 GB, has 2.0 free"]
    plan = place([busy], [one(ram_gb=2)])
    assert (plan.nodes["busy"].instances, plan.nodes["busy"].allocated_ram_gb) == (2, 10)


def test_placing_changes_neither_nodes_nor_instances():
    nodes, instances = [cpu()], [one()]
    before = (list(nodes), list(instances))
    assert place(nodes, instances) == place(nodes, instances)
    assert (nodes, instances) == before


def test_greedy_promises_no_optimum():
    plan = place([cpu()], [one()], "greedy")
    assert (plan.strategy, plan.optimal, plan.bound) == ("greedy", False, None)


def test_a_plan_survives_json():
    plan = place([jetson(), cpu()], [one(gpu="required"), one(id="b", anti_affinity=["a"])])
    text = json.dumps(plan.to_json())
    assert Plan.from_json(json.loads(text)) == plan
    assert json.dumps(Plan.from_json(json.loads(text)).to_json()) == text


def test_without_explanation_only_the_chosen_nodes_are_reported():
    plan = place([jetson(), cpu()], [one()], explain=False)
    assert list(plan.instances["a"].nodes) == [plan.assignments["a"]]
    assert plan.assignments == place([jetson(), cpu()], [one()]).assignments
    assert "cpu" in plan.table()


def test_a_plan_too_large_to_be_explained_reports_the_chosen_nodes_only(monkeypatch):
    monkeypatch.setattr("placement.strategies.MOST_VERDICTS", 1)
    plan = place([jetson(), cpu()], [one()])
    assert list(plan.instances["a"].nodes) == [plan.assignments["a"]]


def test_the_order_of_the_inventory_does_not_change_a_byte():
    nodes = [jetson(), cpu("rpi2"), cpu("rpi10"), discrete()]
    instances = [one(id=f"i{n}", ram_gb=1 + n % 3, gpu=("none", "preferred")[n % 2]) for n in range(8)]
    plans = {json.dumps(place(order, instances).to_json()) for order in itertools.permutations(nodes)}
    assert len(plans) == 1


def test_the_table_shows_a_person_who_goes_where_and_why():
    nodes = [
        Node(name="jetson", node_type="jetson_orin", ram_gb=64, reserved_ram_gb=8, gpu=True, max_instances=4),
        Node(name="rpi1", node_type="raspberry_pi", ram_gb=8, reserved_ram_gb=1),
    ]
    a = one(ram_gb=8, gpu="required", gpu_memory_gb=8, preferred_node="jetson")
    table = place(nodes, [a, one(id="b", ram_gb=2, anti_affinity=["a"])]).table()
    assert (
        table
        == """\
optimal: score 110, proven optimal

instance  node    score  ram_fit  load  gpu  affinity  preferred_node  ports
a         jetson  65     20       20    15   0         10              9000 9001
b         rpi1    45     20       20    5    0         0               9000 9001

node    status   instances  RAM allocated/usable GB  placed
jetson  HEALTHY  1/4        8/56                     a
rpi1    HEALTHY  1/1        2/7                      b

instance  not on  because
a         rpi1    ram: needs 8.0 GB, has 7.0 free; gpu: required, has none
b         jetson  anti_affinity: apart from a"""
    )


def test_a_diff_reports_what_a_plan_changes():
    before = place([cpu("x")], [one(), one(id="b")])
    after = place([cpu("x"), cpu("y")], [one(), one(id="c")], pins={"a": "y", "c": "x"})
    assert after.diff(before) == "- b on x\n~ a from x to y\n+ c on x"
    assert after.diff() == "+ a on y\n+ c on x"
    assert after.diff(after) == ""


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_time_limit_that_no_clock_ever_passes_is_refused(seconds):
    with pytest.raises(ValueError, match="is not a number of seconds"):
        place([cpu()], [Instance(id="a", ram_gb=1)], time_limit_s=seconds)


def test_of_a_plan_anew_those_that_stay_keep_their_ports_and_the_others_get_free_ones():
    nodes = [cpu("n1", max_instances=4, used_ports={9001}), cpu("n2")]
    plan = place(nodes, [one(id=id) for id in "abc"], pins={"a": "n1", "b": "n1", "c": "n2"})
    kept = plan.keeping({"b": {"llama": 9000, "peer": 9002}}, nodes, (9000, 9099))
    assert kept.ports == {
        "a": {"peer": 9003, "llama": 9004}, "b": {"peer": 9002, "llama": 9000}, "c": {"peer": 9000, "llama": 9001},
    }  # fmt: skip
    assert plan.keeping({}, nodes, (9000, 9099)).ports == plan.ports
