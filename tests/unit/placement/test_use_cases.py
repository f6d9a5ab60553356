"""The specification's four use cases, from the files that are run, on both inventories, in every order of the nodes."""

import itertools
import json
from functools import cache

import pytest
from cluster import ROOT, violations

from placement import load_experiment, nodes_from_hostvars, place, port_range_from_hostvars, read_inventory

EXPECTED = {
    "split_brain": {"a": "jetson", "b": "rpi1"},
    "hive_cluster": {"historian": "jetson", "critic": "jetson", "optimist": "jetson", "pessimist": "rpi1"},
    "panopticon": {"subject": "rpi1", "observer": "jetson"},
    "prisoners_dilemma": {"player_a": "rpi1", "player_b": "rpi2"},
}


@cache
def hostvars(inventory: str):
    return read_inventory(str(ROOT / "inventory" / inventory), ROOT)


@pytest.mark.parametrize("inventory", ["lab", "virtual"])
@pytest.mark.parametrize("name", EXPECTED)
def test_the_use_cases_come_out_as_documented_in_any_order_of_the_nodes(name, inventory):
    nodes = nodes_from_hostvars(hostvars(inventory))
    instances = load_experiment(ROOT / "experiments" / f"{name}.yml").instances
    plans = [place(order, instances) for order in itertools.permutations(nodes)]
    assert plans[0].assignments == EXPECTED[name]
    assert len({json.dumps(plan.to_json()) for plan in plans}) == 1
    assert violations(nodes, instances, plans[0], {}) == []


def test_brain_a_scores_the_seeds_65_points_on_the_jetson():
    plan = place(nodes_from_hostvars(hostvars("lab")), load_experiment(ROOT / "experiments/split_brain.yml").instances)
    assert plan.instances["a"].nodes["jetson"].score == 65


@pytest.mark.parametrize("inventory", ["lab", "virtual"])
def test_the_inventories_describe_the_seeds_four_nodes(inventory):
    nodes = {node.name: node for node in nodes_from_hostvars(hostvars(inventory))}
    assert list(nodes) == ["host", "jetson", "rpi1", "rpi2"]
    assert {name: (node.node_type, node.ram_gb, node.max_instances, node.gpu) for name, node in nodes.items()} == {
        "host": ("host", 32, 2, False),
        "jetson": ("jetson_orin", 64, 4, True),
        "rpi1": ("raspberry_pi", 8, 1, False),
        "rpi2": ("raspberry_pi", 8, 1, False),
    }
    assert nodes["jetson"].unified
    assert port_range_from_hostvars(hostvars(inventory)) == (9000, 9100)
