"""Every component of a score at its boundaries (DESIGN, Placement; seed, Scoring System)."""

import pytest
from cluster import cpu, discrete, jetson

from placement import Instance, Node, place


def points(node: Node, instance: Instance, *others: Instance) -> dict[str, float]:
    """The components of the instance's score on the only node; the others are placed before or after by the order."""
    return dict(place([node], [*others, instance]).instances[instance.id].nodes[node.name].components)


def test_the_seeds_example_scores_65_points():
    a = Instance(id="split_brain_A", ram_gb=8, gpu="required", gpu_memory_gb=8, preferred_node="jetson")
    plan = place([jetson()], [a])
    assert plan.score == 65
    assert points(jetson(), a) == {"ram_fit": 20, "load": 20, "gpu": 15, "affinity": 0, "preferred_node": 10}


@pytest.mark.parametrize(
    ("ram_gb", "expected"),
    [(0.1, 20), (2.999999, 20), (3, 30), (5, 30), (7, 30), (7.000001, 10), (10, 10)],
)
def test_ram_fit_is_best_from_30_to_70_percent_of_the_free_ram(ram_gb, expected):
    assert points(cpu(), Instance(id="a", ram_gb=ram_gb))["ram_fit"] == expected


@pytest.mark.parametrize("scale", [0.1, 0.7, 1.1, 2.3, 1000.3])
def test_the_boundaries_of_ram_fit_hold_in_spite_of_binary_fractions(scale):
    node = cpu(ram_gb=10 * scale)
    assert points(node, Instance(id="a", ram_gb=round(3 * scale, 6)))["ram_fit"] == 30
    assert points(node, Instance(id="a", ram_gb=round(7 * scale, 6)))["ram_fit"] == 30


def test_ram_fit_counts_reserved_and_allocated_ram_as_gone():
    node = cpu(ram_gb=16, reserved_ram_gb=2, allocated_ram_gb=4)
    assert points(node, Instance(id="a", ram_gb=3))["ram_fit"] == 30


def test_ram_fit_looks_at_what_is_free_before_the_instance_and_after_the_ones_before_it():
    big, small = Instance(id="big", ram_gb=6), Instance(id="small", ram_gb=2)
    assert points(cpu(), small, big)["ram_fit"] == 30  # 2 of the 4 that big leaves


@pytest.mark.parametrize(("taken", "expected"), [(0, 20), (1, 15), (2, 10), (3, 5)])
def test_load_falls_with_the_slots_taken(taken, expected):
    assert points(jetson(current_instances=taken), Instance(id="a", ram_gb=1))["load"] == expected


def test_load_is_exact_in_thirds():
    assert points(cpu(max_instances=3, current_instances=1), Instance(id="a", ram_gb=1))["load"] == pytest.approx(
        40 / 3
    )


@pytest.mark.parametrize(
    ("gpu", "node", "expected"),
    [
        ("required", discrete(), 15),
        ("preferred", discrete(), 15),
        ("none", discrete(), 0),
        ("preferred", cpu(), 0),
        ("none", cpu(), 5),
    ],
)
def test_gpu_points_are_for_a_match(gpu, node, expected):
    assert points(node, Instance(id="a", ram_gb=1, gpu=gpu))["gpu"] == expected


@pytest.mark.parametrize(("related", "expected"), [(0, 0), (1, 10), (2, 20), (3, 25), (4, 25)])
def test_affinity_gives_10_for_each_related_instance_and_at_most_25(related, expected):
    others = [Instance(id=f"o{i}", ram_gb=2) for i in range(related)]
    last = Instance(id="last", ram_gb=1, affinity=[other.id for other in others])
    assert points(cpu(ram_gb=99, max_instances=9), last, *others)["affinity"] == expected


def test_affinity_holds_when_only_the_other_declares_it():
    first = Instance(id="first", ram_gb=2, affinity=["second"])
    assert points(cpu(), Instance(id="second", ram_gb=1), first)["affinity"] == 10


def test_a_relation_stated_by_both_counts_once():
    first = Instance(id="first", ram_gb=2, affinity=["second"])
    assert points(cpu(), Instance(id="second", ram_gb=1, affinity=["first"]), first)["affinity"] == 10


def test_affinity_counts_only_what_is_on_the_node_already():
    first = Instance(id="first", ram_gb=2, affinity=["second"])
    assert points(cpu(), first, Instance(id="second", ram_gb=1))["affinity"] == 0


@pytest.mark.parametrize(("preferred", "expected"), [("cpu", 10), ("other", 0), (None, 0)])
def test_the_preferred_node_gets_10(preferred, expected):
    assert points(cpu(), Instance(id="a", ram_gb=1, preferred_node=preferred))["preferred_node"] == expected


def test_a_plans_score_is_the_sum_of_its_steps():
    plan = place([jetson(), cpu()], [Instance(id=f"i{n}", ram_gb=n + 1, gpu="preferred") for n in range(4)])
    assert plan.score == sum(choice.score for choice in plan.instances.values())
    for choice in plan.instances.values():
        assert choice.score == sum(choice.nodes[choice.node].components.values())
