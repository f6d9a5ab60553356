"""Why there is no plan, and what would make one: every word of it tried against all plans there are."""

import json
from dataclasses import replace
from itertools import combinations, product

import pytest
from cluster import cpu, jetson
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_properties import clusters, experiments

from placement import Infeasible, Instance, Node, place, place_and_explain
from placement.constraints import feasible
from placement.explain.conflict import conflict, reasons
from placement.explain.scenario import Scenario

LIMIT_S = 60


def one(id, **demands):
    return Instance(id=id, **{"ram_gb": 2, **demands})


def refusal(nodes, instances, **options) -> Infeasible:
    with pytest.raises(Infeasible) as refused:
        place_and_explain(nodes, instances, **options)
    return refused.value


def has_plan(scenario: Scenario) -> bool:
    """By trying every assignment."""
    problem = scenario.problem()
    for choice in product(range(len(scenario.nodes)), repeat=len(scenario.instances)):
        capacities = problem.capacities()
        for request, at in zip(problem.requests, choice, strict=True):
            if not feasible(capacities[at], request):
                break
            capacities[at].add(request)
        else:
            return True
    return False


def held(scenario: Scenario, ids, constraints) -> Scenario:
    """The case with these instances and these of their constraints only, made of nothing but declarations.

    Next to no RAM is 1 KiB on nodes that have some to spare for it, since an instance takes some.
    """
    kept = {(constraint.kind, constraint.subject) for constraint in constraints}
    spare = len(ids) * 1e-6
    nodes = []
    for node in scenario.nodes:
        more = (
            {}
            if ("slots", (node.name,)) in kept
            else {"max_instances": max(node.max_instances, node.current_instances + len(ids))}
        )
        more |= {} if ("ports", ()) in kept else {"used_ports": frozenset()}
        shortfall = max(0, node.reserved_ram_gb + node.allocated_ram_gb - node.ram_gb)
        nodes.append(replace(node, ram_gb=node.ram_gb + shortfall + spare, **more))
    instances = []
    for instance in scenario.instances:
        id = instance.id
        if id not in ids:
            continue
        instances.append(
            replace(
                instance,
                ram_gb=instance.ram_gb if ("ram", (id,)) in kept else 1e-6,
                gpu="preferred" if instance.gpu == "required" and ("gpu", (id,)) not in kept else instance.gpu,
                gpu_memory_gb=instance.gpu_memory_gb if ("gpu_memory", (id,)) in kept else 0,
                anti_affinity=[
                    other
                    for other in instance.anti_affinity
                    if ("anti_affinity", tuple(sorted((id, other)))) in kept and other in ids
                ],
                affinity=[],
            )
        )
    return Scenario(
        tuple(nodes),
        tuple(instances),
        {id: node for id, node in scenario.pins.items() if id in ids and ("pin", (id,)) in kept},
        scenario.port_range if ("ports", ()) in kept else (1, 1000),
        tuple(id for id in scenario.same_type if id in ids) if ("same_type", ()) in kept else (),
        {id: kind for id, kind in scenario.node_types.items() if id in ids and ("node_type", (id,)) in kept},
    )


@st.composite
def refused(draw):
    """A small case that has no plan."""
    nodes = [
        replace(node, node_type=draw(st.sampled_from(["generic", "host"])), gpu_memory=node.gpu_memory)
        for node in draw(clusters())[:3]
    ]
    instances = draw(experiments())[:4]
    ids, names = [instance.id for instance in instances], [node.name for node in nodes]
    pins = draw(st.dictionaries(st.sampled_from(ids), st.sampled_from(names), max_size=1))
    alike = draw(st.sampled_from([(), (), tuple(ids[:2])]))
    types = draw(st.dictionaries(st.sampled_from(ids), st.sampled_from(["generic", "host"]), max_size=1))
    scenario = Scenario(
        tuple(nodes), tuple(instances), pins, draw(st.sampled_from([(9000, 9003), (9000, 9100)])), alike, types
    )
    assume(not has_plan(scenario))
    return scenario


CASES = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


@CASES
@given(refused())
def test_a_conflict_has_no_plan_and_without_any_part_of_it_there_is_one(scenario):
    found = conflict(scenario, LIMIT_S)
    assert found.smallest
    assert found.irreducible
    assert not has_plan(held(scenario, found.instances, found.constraints))
    for constraint in found.constraints:
        others = [other for other in found.constraints if other != constraint]
        assert has_plan(held(scenario, found.instances, others)), f"without {constraint} there is no plan either"
    for id in found.instances:
        assert has_plan(held(scenario, set(found.instances) - {id}, found.constraints)), f"nor without {id}"


@CASES
@given(refused())
def test_no_fewer_instances_are_in_conflict(scenario):
    found = conflict(scenario, LIMIT_S)
    ids = [instance.id for instance in scenario.instances]
    for fewer in combinations(ids, len(found.instances) - 1):
        rest = scenario
        for id in set(ids) - set(fewer):
            rest = rest.without(id)
        assert has_plan(rest)


def applied(scenario: Scenario, change) -> Scenario:
    """The case with the change that a remedy reports to a program."""
    match change:
        case {"change": "status", "node": name, "to": status}:
            return scenario.with_node(name, status=status)
        case {"change": "pin", "instance": id}:
            return replace(scenario, pins={other: node for other, node in scenario.pins.items() if other != id})
        case {"change": "anti_affinity", "instances": [first, second]}:
            for id, other in ((first, second), (second, first)):
                less = [apart for apart in scenario.instance(id).anti_affinity if apart != other]
                scenario = scenario.with_instance(id, anti_affinity=less)
            return scenario
        case {"change": "same_type"}:
            return replace(scenario, same_type=())
        case {"change": "node_type", "instance": id}:
            return replace(
                scenario, node_types={other: kind for other, kind in scenario.node_types.items() if other != id}
            )
        case {"change": "gpu", "instance": id, "to": to}:
            return scenario.with_instance(id, gpu=to)
        case {"change": "ram_gb" | "gpu_memory_gb" as key, "instance": id, "to_gb": to}:
            return scenario.with_instance(id, **{key: to})
        case {"change": "node_ram", "node": name, "to_gb": to}:
            return scenario.with_node(name, ram_gb=to)
        case {"change": "slots", "node": name, "to": to}:
            return scenario.with_node(name, max_instances=to)
        case {"change": "ports", "to": [first, last]}:
            return replace(scenario, port_range=(first, last))
        case {"change": "without", "instance": id}:
            return scenario.without(id)
    raise AssertionError(change)


@CASES
@given(refused())
def test_each_remedy_makes_a_plan_possible_and_a_bit_less_of_it_does_not(scenario):
    reported = reasons(scenario, LIMIT_S)
    assert reported.untried == 0
    for remedy in reported.remedies:
        change = dict(remedy.change)
        assert has_plan(applied(scenario, change)), change
        kind = change["change"]
        if kind == "node_ram":
            assert not has_plan(applied(scenario, change | {"to_gb": change["to_gb"] - 0.001}))
        elif kind in ("ram_gb", "gpu_memory_gb"):
            assert not has_plan(applied(scenario, change | {"to_gb": change["to_gb"] + 0.001}))
        elif kind == "ports":
            assert not has_plan(applied(scenario, change | {"to": [change["to"][0], change["to"][1] - 1]}))
        for name in remedy.alike:
            key = "node" if "node" in change else "instance"
            assert has_plan(applied(scenario, change | {key: name}))


@CASES
@given(refused())
def test_no_remedy_of_a_kind_is_missed(scenario):
    kinds = {remedy.change["change"] for remedy in reasons(scenario, LIMIT_S).remedies}
    for node in scenario.nodes:
        if node.status in ("DEGRADED", "MAINTENANCE") and has_plan(scenario.with_node(node.name, status="HEALTHY")):
            assert "status" in kinds
        if has_plan(scenario.with_node(node.name, max_instances=node.max_instances + 1)):
            assert "slots" in kinds
        if has_plan(scenario.with_node(node.name, ram_gb=node.ram_gb + 100)):
            assert "node_ram" in kinds
    for instance in scenario.instances:
        if has_plan(scenario.without(instance.id)):
            assert "without" in kinds
        if instance.gpu == "required" and has_plan(scenario.with_instance(instance.id, gpu="preferred")):
            assert "gpu" in kinds


def test_three_that_need_a_gpu_and_one_node_that_has_room_for_two_in_words():
    lab = [
        jetson(),
        Node(name="host", ram_gb=32, reserved_ram_gb=4, max_instances=2),
        *(Node(name=f"rpi{number}", ram_gb=8, reserved_ram_gb=1) for number in (1, 2)),
    ]
    minds = [one(id, ram_gb=20, gpu="required") for id in "abc"]
    reported = refusal(lab, [*minds, one("d")])
    assert (
        str(reported.conflict)
        == """\
smallest conflict: a, b, c cannot all be placed
  a, b, c each needs a GPU and 20.0 GB RAM
  host, rpi1, rpi2: no GPU, room for none of them
  jetson: 56.0 GB RAM free, room for 2 of them"""
    )


def test_the_lab_that_refuses_a_pin_in_words():
    a = one("a", ram_gb=8, gpu="required", gpu_memory_gb=8, preferred_node="jetson")
    reported = refusal([jetson(), cpu("rpi1", ram_gb=7)], [a, one("b", anti_affinity=["a"])], pins={"a": "rpi1"})
    assert str(reported).splitlines()[-7:] == [
        "smallest conflict: a cannot be placed",
        "  a needs a GPU and is pinned to rpi1",
        "  rpi1: no GPU",
        "",
        "each of these makes it fit, the smallest change first:",
        "  no pin of a to rpi1",
        "  without a",
    ]


def test_what_would_make_it_fit_is_exact_to_the_last_bit_of_memory():
    nodes = [cpu("x", ram_gb=8, reserved_ram_gb=0.7, max_instances=4), cpu("y", ram_gb=4, max_instances=1)]
    reported = refusal(nodes, [one("a", ram_gb=6.5), one("b", ram_gb=4.25), one("c", ram_gb=0.3, anti_affinity=["b"])])
    assert [str(remedy) for remedy in reported.remedies] == [
        "b with ram_gb: 4.0 instead of 4.25",
        "y with 0.25 GB more RAM (4.25)",
        "a with ram_gb: 3.05 instead of 6.5",
        "x with 3.45 GB more RAM (11.45)",
        "without a",
        "without b",
    ]


def test_a_node_in_maintenance_is_in_the_conflict_and_setting_it_back_comes_first():
    reported = refusal([jetson(status="MAINTENANCE"), cpu()], [one("a", gpu="required")])
    assert "  jetson: MAINTENANCE" in str(reported.conflict).splitlines()
    assert str(reported.remedies[0]) == "jetson HEALTHY again instead of MAINTENANCE"


def test_those_that_are_alike_are_counted_not_tried_one_by_one():
    minds = [one(f"m{number}", ram_gb=1) for number in range(12)]
    reported = refusal([cpu(f"n{number}", max_instances=3) for number in range(3)], minds)
    assert reported.conflict.smallest
    assert (len(reported.conflict.instances), {c.kind for c in reported.conflict.constraints}) == (10, {"slots"})
    assert list(reported.remedies) == []
    assert "no single change" in str(reported)
    reported = refusal([cpu(f"n{number}", max_instances=4) for number in range(3)], [*minds, one("one_more", ram_gb=1)])
    assert [remedy.change["change"] for remedy in reported.remedies] == ["slots", "without"]
    assert reported.remedies[0].alike == ("n1", "n2")


def test_what_greedy_walks_past_is_reported():
    gpus = [
        Node(name="one", ram_gb=9, gpu=True, gpu_memory_gb=8, gpu_memory="discrete", max_instances=1),
        Node(name="two", ram_gb=10, gpu=True, gpu_memory_gb=4, gpu_memory="discrete", max_instances=1),
    ]
    pair = [one("a", ram_gb=6, gpu="required", gpu_memory_gb=4), one("b", ram_gb=5, gpu="required", gpu_memory_gb=8)]
    reported = refusal(gpus, pair, strategy="greedy")
    assert reported.conflict is None
    assert [remedy.change for remedy in reported.remedies] == [{"change": "strategy", "to": "optimal"}]


def test_a_refusal_as_json_keeps_its_keys_and_has_conflict_and_remedies():
    reported = json.loads(json.dumps(refusal([cpu()], [one("a", ram_gb=12)]).to_json()))
    assert reported["infeasible"] is True
    assert reported["rejections"] == {"a": {"cpu": ["ram: needs 12.0 GB, has 10.0 free"]}}
    found = reported["conflict"]
    assert found["instances"] == ["a"]
    assert found["constraints"] == [{"constraint": "ram", "instances": ["a"], "says": "needs 12.0 GB RAM"}]
    assert found["nodes"] == {"cpu": {"has": "10.0 GB RAM free", "takes": 0}}
    assert (found["smallest"], found["irreducible"], reported["untried"]) == (True, True, 0)
    assert {"change": "node_ram", "node": "cpu", "to_gb": 12.0, "more_gb": 2.0, "alike": []}.items() <= reported[
        "remedies"
    ][1].items()


def test_place_alone_explains_nothing():
    with pytest.raises(Infeasible) as refused:
        place([cpu()], [one("a", ram_gb=12)])
    assert (refused.value.conflict, refused.value.remedies) == (None, ())


def test_when_the_time_is_over_what_was_found_is_reported_as_what_it_is():
    nodes = [cpu(f"n{number}", ram_gb=10 + number, max_instances=3) for number in range(6)]
    reported = reasons(
        Scenario(tuple(nodes), tuple(one(f"m{number}", ram_gb=4 + number) for number in range(14))), 1e-9
    )
    assert not reported.conflict.smallest
    assert not reported.conflict.irreducible
    assert len(reported.conflict.instances) == 14
    assert reported.untried > 0
    assert "not reduced further in the time given" in str(reported)
    assert "were not tried in the time given" in str(reported)
