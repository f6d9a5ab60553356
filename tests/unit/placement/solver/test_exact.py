"""The exact search against every plan there is, on clusters small enough to try them all."""

from dataclasses import replace
from itertools import product

import pytest
from cluster import cpu, jetson, violations
from hypothesis import given, settings
from hypothesis import strategies as st
from test_properties import clusters, experiments

from placement import Infeasible, Instance, Node, place
from placement.constraints import feasible
from placement.problem import PORT_RANGE, Problem
from placement.scoring import gpu, preferred_node, score
from tests.bench.clusters import feasible as feasible_by_construction


def best_of_all(nodes, instances):
    """(score, assignments) of the best plan by score and the tie rules; None when there is none."""
    problem, best = Problem(nodes, instances, {}, PORT_RANGE), None
    for choice in product(range(len(nodes)), repeat=len(instances)):
        capacities = problem.capacities()
        totals = [0, 0, 0, 0]
        for request, at in zip(problem.requests, choice, strict=True):
            capacity = capacities[at]
            if not feasible(capacity, request):
                break
            step = (
                score(capacity, request),
                preferred_node(capacity, request),
                gpu(capacity, request),
                -capacity.free_ram,
            )
            totals = [sum(pair) for pair in zip(totals, step, strict=True)]
            capacity.add(request)
        else:
            names = [problem.nodes[at].name for at in choice]
            ids = [request.instance.id for request in problem.requests]
            best = max(
                best or ([-1],),
                (totals, [-at for at in choice], dict(zip(ids, names, strict=True))),
                key=lambda x: x[:2],
            )
    return best and (float(best[0][0]), best[0], best[2])


def totals(nodes, instances, assignments):
    """A plan's score, preferred points, GPU points and free RAM, as the tie rules compare them."""
    problem = Problem(nodes, instances, {}, PORT_RANGE)
    capacities, sums = {capacity.node.name: capacity for capacity in problem.capacities()}, [0, 0, 0, 0]
    for request in problem.requests:
        capacity = capacities[assignments[request.instance.id]]
        step = (score(capacity, request), preferred_node(capacity, request), gpu(capacity, request), -capacity.free_ram)
        sums = [sum(pair) for pair in zip(sums, step, strict=True)]
        capacity.add(request)
    return sums


@settings(max_examples=60, deadline=None)
@given(clusters(), experiments())
def test_it_is_the_best_of_all_plans_by_score_and_tie_rules_and_refuses_only_when_there_is_none(nodes, instances):
    nodes, instances = nodes[:4], instances[:4]
    ids = {instance.id for instance in instances}
    best = best_of_all(nodes, instances)
    try:
        plan = place(nodes, instances)
    except Infeasible:
        assert best is None
        return
    assert best is not None
    assert plan.optimal
    assert plan.bound == pytest.approx(plan.score, abs=1e-4)
    assert set(plan.assignments) == ids
    assert violations(nodes, instances, plan, {}) == []
    assert totals(nodes, instances, plan.assignments) == best[1]
    assert plan.assignments == best[2], "the names decide the rest"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 7), st.integers(2, 16), st.booleans())
def test_what_is_feasible_by_construction_is_always_solved_and_proven(seed, number, count, slack):
    nodes, instances = feasible_by_construction(seed, number, max(count, number), slack)
    plan = place(nodes, instances, time_limit_s=120)
    assert plan.optimal
    assert violations(nodes, instances, plan, {}) == []


@pytest.mark.parametrize("limit", [0.0, 0.3])
def test_hundreds_of_instances_get_a_plan_within_the_limit_and_its_gap(limit):
    nodes, instances = feasible_by_construction(1, 30, 150, True)
    instances = [replace(one, ram_gb=one.ram_gb / 3, gpu_memory_gb=one.gpu_memory_gb / 3) for one in instances]
    plan = place(nodes, instances, time_limit_s=limit, explain=False)
    assert violations(nodes, instances, plan, {}) == []
    assert plan.bound >= plan.score >= place(nodes, instances, "greedy", explain=False).score - 1e-6
    assert "a gap of" in plan.table()


def test_a_plan_is_found_where_greedy_finds_none_and_too_much_is_refused_with_a_proof():
    nodes, instances = feasible_by_construction(0, 30, 150, True)
    with pytest.raises(Infeasible):
        place(nodes, instances, "greedy")
    assert violations(nodes, instances, place(nodes, instances, time_limit_s=5, explain=False), {}) == []
    halves = [Instance(id=f"i{number}", ram_gb=6) for number in range(7)]
    with pytest.raises(Infeasible) as refused:
        place([cpu(f"n{number}", ram_gb=11, max_instances=2) for number in range(6)], halves)
    assert type(refused.value) is Infeasible


@settings(max_examples=40, deadline=None)
@given(clusters(), experiments())
def test_it_is_never_below_greedy_and_places_whatever_greedy_places(nodes, instances):
    try:
        greedy = place(nodes, instances, "greedy")
    except Infeasible:
        return
    assert place(nodes, instances).score >= greedy.score - 1e-6


@settings(max_examples=30, deadline=None)
@given(clusters(), experiments(), st.integers(0, 2**32 - 1))
def test_a_seed_draws_among_equally_good_plans_and_draws_the_same_again(nodes, instances, seed):
    try:
        plan = place(nodes, instances)
    except Infeasible:
        return
    drawn = place(nodes, instances, seed=seed)
    assert drawn.score == pytest.approx(plan.score)
    assert violations(nodes, instances, drawn, {}) == []
    assert place(nodes, instances, seed=seed) == drawn


def test_seeds_reach_every_equally_good_plan():
    nodes, instances = [cpu("n1"), cpu("n2"), cpu("n3")], [Instance(id="a", ram_gb=1)]
    assert {place(nodes, instances, seed=seed).assignments["a"] for seed in range(40)} == {"n1", "n2", "n3"}


def test_it_finds_the_plan_that_greedy_walks_past():
    # a takes the only node that can hold b's GPU memory later: greedy has no way back.
    gpus = [
        Node(name="one", ram_gb=9, gpu=True, gpu_memory_gb=8, gpu_memory="discrete", max_instances=1),
        Node(name="two", ram_gb=10, gpu=True, gpu_memory_gb=4, gpu_memory="discrete", max_instances=1),
    ]
    pair = [
        Instance(id="a", ram_gb=6, gpu="required", gpu_memory_gb=4),
        Instance(id="b", ram_gb=5, gpu="required", gpu_memory_gb=8),
    ]
    with pytest.raises(Infeasible):
        place(gpus, pair, "greedy")
    assert place(gpus, pair).assignments == {"a": "two", "b": "one"}


@pytest.mark.parametrize("strategy", ["greedy", "optimal"])
def test_those_that_must_be_alike_are_on_one_node_type(strategy):
    nodes = [
        jetson(),
        Node(name="rpi1", node_type="raspberry_pi", ram_gb=8),
        Node(name="rpi2", node_type="raspberry_pi", ram_gb=8),
    ]
    pair = [Instance(id="a", ram_gb=2, gpu="preferred"), Instance(id="b", ram_gb=2, anti_affinity=["a"])]
    types = {node.name: node.node_type for node in nodes}
    free = place(nodes, pair)
    assert {types[name] for name in free.assignments.values()} == {"jetson_orin", "raspberry_pi"}
    if strategy == "greedy":
        with pytest.raises(Infeasible, match="same_type: the others are on a jetson_orin"):
            place(nodes, pair, strategy, same_type=["a", "b"])
    else:
        alike = place(nodes, pair, strategy, same_type=["a", "b"])
        assert {types[name] for name in alike.assignments.values()} == {"raspberry_pi"}
        assert alike.optimal


def test_a_limit_that_ends_the_search_leaves_a_plan_and_says_the_gap():
    nodes = [cpu(f"n{number}", ram_gb=8 + number, max_instances=4) for number in range(12)]
    instances = [Instance(id=f"i{number}", ram_gb=1 + number % 5 / 3) for number in range(36)]
    plan = place(nodes, instances, time_limit_s=0.01)
    assert plan.score >= place(nodes, instances, "greedy").score - 1e-6
    assert plan.optimal or "not proven best" in plan.table()
