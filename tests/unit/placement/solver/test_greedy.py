"""greedy against a plain scan of every node for every instance: the same choices, the same refusals, less work."""

import random
from dataclasses import replace

import pytest
from cluster import cpu, discrete
from hypothesis import given, settings
from hypothesis import strategies as st
from test_properties import clusters, experiments

from placement import Infeasible, Instance, place, scoring
from placement.model import NODE_TYPES
from placement.plan import MOST_REASONS
from placement.problem import PORT_RANGE, Problem
from placement.solver.greedy import greedy
from tests.bench.clusters import feasible
from tests.bench.exhaustive import exhaustive


def outcome(search, problem):
    """Who goes where, in the order placed; or who is refused and why, as data and as text."""
    try:
        return list(search(problem).assignments.items())
    except Infeasible as refusal:
        return refusal.rejections, str(refusal)


@settings(max_examples=300, deadline=None)
@given(clusters(), experiments(), st.data())
def test_it_chooses_and_refuses_as_a_scan_of_every_node_does(nodes, instances, data):
    types = st.sampled_from(NODE_TYPES)
    nodes = [replace(node, node_type=data.draw(types)) for node in nodes]
    id, name = st.sampled_from([one.id for one in instances]), st.sampled_from([node.name for node in nodes])
    problem = Problem(
        nodes,
        instances,
        pins=data.draw(st.dictionaries(id, name, max_size=2)),
        port_range=data.draw(st.sampled_from([PORT_RANGE, (9000, 9008)])),
        same_type=data.draw(st.lists(id, max_size=3)),
        node_types=data.draw(st.dictionaries(id, types, max_size=1)),
    )
    assert outcome(greedy, problem) == outcome(exhaustive, problem)


@settings(max_examples=60, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.integers(1, 60),
    st.integers(1, 300),
    st.booleans(),
    st.sampled_from([1, 0.6, 0.3]),
)
def test_it_does_so_on_larger_clusters_with_every_kind_of_demand(rng, count, many, slack, share):
    nodes, instances = feasible(rng.getrandbits(32), count, many, slack)
    ids = [instance.id for instance in instances]
    problem = Problem(
        nodes,
        # Smaller ones, so that there are plans among the outcomes and not refusals only.
        [replace(one, ram_gb=one.ram_gb * share, gpu_memory_gb=one.gpu_memory_gb * share) for one in instances],
        pins={rng.choice(ids): rng.choice(nodes).name for _ in range(rng.choice([0, 0, 3]))},
        port_range=rng.choice([PORT_RANGE, (9000, 9020)]),
        same_type=rng.sample(ids, min(many, rng.choice([0, 0, 3]))),
        node_types={rng.choice(ids): rng.choice(nodes).node_type for _ in range(rng.choice([0, 0, 3]))},
    )
    assert outcome(greedy, problem) == outcome(exhaustive, problem)


def test_loads_that_differ_only_by_a_fraction_are_distinguished():
    # 20 - 20/10**9 and 20 - 20/(10**9 + 1) are the same binary fraction; a tie would go to the smaller node.
    nodes = [
        cpu("small", max_instances=10**9, current_instances=1),
        cpu("large", ram_gb=10.1, max_instances=10**9 + 1, current_instances=1),
    ]
    assert place(nodes, [Instance(id="a", ram_gb=1)], "greedy").assignments == {"a": "large"}


def test_a_tie_between_the_nodes_of_related_instances_goes_to_the_first_name():
    instances = [
        Instance(id="a", ram_gb=3),
        Instance(id="b", ram_gb=3, anti_affinity=["a"]),
        Instance(id="c", ram_gb=1, affinity=["a", "b"]),
    ]
    assert place([cpu("n10"), cpu("n2")], instances, "greedy").assignments == {"a": "n2", "b": "n10", "c": "n2"}


def test_a_pool_that_has_too_little_left_for_the_gpu_memory_is_passed_over():
    pool = discrete("pool", ram_gb=4, gpu_memory="unified")  # its GPU may have 8 GB, of 4
    wants = Instance(id="a", ram_gb=1, gpu="preferred", gpu_memory_gb=6)
    assert place([pool, cpu()], [wants], "greedy").assignments == {"a": "cpu"}


def test_a_gpu_whose_memory_others_overcommitted_takes_an_instance_that_needs_none_of_it():
    nodes = [discrete("pc", allocated_gpu_memory_gb=9), cpu()]
    assert place(nodes, [Instance(id="a", ram_gb=1, gpu="required")], "greedy").assignments == {"a": "pc"}


@pytest.mark.parametrize("gpu", ["none", "preferred", "required"])
def test_a_node_is_looked_at_again_only_when_something_there_has_changed(gpu, monkeypatch):
    looks, ram_fit = [], scoring.ram_fit
    monkeypatch.setattr(
        scoring, "ram_fit", lambda capacity, request: looks.append(capacity) or ram_fit(capacity, request)
    )
    rng, count, many = random.Random(3), 300, 2000  # noqa: S311 - the same each time
    nodes = [
        discrete(f"n{number}", ram_gb=rng.uniform(30, 90), gpu_memory_gb=rng.uniform(30, 90), max_instances=9)
        for number in range(count)
    ]
    instances = [
        Instance(id=f"i{number}", ram_gb=rng.uniform(0.1, 9), gpu=gpu, gpu_memory_gb=rng.uniform(0, 9))
        for number in range(many)
    ]
    greedy(Problem(nodes, instances, {}, PORT_RANGE))
    # At first, when it takes an instance, and now and then when a step of ram_fit is passed: not for every instance.
    assert count + many <= len(looks) <= 1.5 * (count + many)


def test_a_large_refusal_names_every_instance_and_gives_reasons_within_a_budget():
    count, many = 200, 3 * MOST_REASONS // 200
    nodes = [cpu(f"n{number}") for number in range(count)]
    instances = [Instance(id=f"i{number}", ram_gb=90) for number in range(many)]
    with pytest.raises(Infeasible) as refused:
        place(nodes, instances, "greedy")
    why, reported = refused.value.rejections, MOST_REASONS // count
    assert list(why) == [instance.id for instance in instances]
    assert [len(nodes) for nodes in why.values()] == [count] * reported + [0] * (many - reported)
    lines = str(refused.value).splitlines()
    assert lines[0] == f"no plan: no node takes {', '.join(why)}"
    assert lines[1:3] == ["i0:", "  n0    ram: needs 90.0 GB, has 10.0 free"]
    assert lines[-1] == (
        f"{many - reported} more are refused; to see why node by node, place fewer instances at a time"
    )


def test_reasons_are_given_for_the_first_refused_instance_however_many_nodes_there_are():
    nodes = [cpu(f"n{number}") for number in range(MOST_REASONS + 1)]
    with pytest.raises(Infeasible) as refused:
        place(nodes, [Instance(id="a", ram_gb=90), Instance(id="b", ram_gb=80)], "greedy")
    assert {id: len(why) for id, why in refused.value.rejections.items()} == {"a": MOST_REASONS + 1, "b": 0}
