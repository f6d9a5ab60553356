"""What if an instance were on another node: against all plans there are."""

import json
from dataclasses import replace
from itertools import product

import pytest
from cluster import cpu, jetson
from hypothesis import given, settings
from test_properties import clusters, experiments

from placement import BadInput, Infeasible, Instance, Node, Plan, parse_why, place, place_and_explain
from placement.constraints import feasible
from placement.explain.scenario import Scenario
from placement.explain.whatif import Counterfactual, counterfactuals
from placement.scoring import score

LIMIT_S = 60
LAB = [
    Node(name="jetson", node_type="jetson_orin", ram_gb=64, reserved_ram_gb=8, gpu=True, max_instances=4),
    Node(name="rpi1", node_type="raspberry_pi", ram_gb=8, reserved_ram_gb=1),
    Node(name="rpi2", node_type="raspberry_pi", ram_gb=8, reserved_ram_gb=1),
    Node(name="host", node_type="host", ram_gb=32, reserved_ram_gb=4, max_instances=2),
]


def one(id, **demands):
    return Instance(id=id, **{"ram_gb": 2, **demands})


def scores(scenario: Scenario, id: str) -> dict[str, float]:
    """Node -> the score of the best of all plans that have the instance there."""
    problem, best = scenario.problem(), {}
    for choice in product(range(len(scenario.nodes)), repeat=len(scenario.instances)):
        capacities, total = problem.capacities(), 0
        for request, at in zip(problem.requests, choice, strict=True):
            if not feasible(capacities[at], request):
                break
            total += score(capacities[at], request)
            capacities[at].add(request)
        else:
            place = {r.instance.id: problem.nodes[at].name for r, at in zip(problem.requests, choice, strict=True)}
            best[place[id]] = max(float(total), best.get(place[id], 0))
    return best


def planned(nodes, instances):
    """(case, plan), or None when there is no plan."""
    scenario = Scenario(tuple(nodes[:3]), tuple(instances[:3]))
    try:
        return scenario, place(scenario.nodes, scenario.instances)
    except Infeasible:
        return None


@settings(max_examples=60, deadline=None)
@given(clusters(), experiments())
def test_the_loss_is_that_to_the_best_of_all_plans_with_the_instance_there(nodes, instances):
    if not (made := planned(nodes, instances)):
        return
    scenario, plan = made
    for id, answers in counterfactuals(scenario, plan, [(one.id, None) for one in scenario.instances], LIMIT_S).items():
        best = scores(scenario, id)
        assert set(answers) == {node.name for node in scenario.nodes} - {plan.assignments[id]}
        for name, answer in answers.items():
            assert answer.answered
            assert answer.feasible == (name in best)
            if answer.feasible:
                assert answer.loss == pytest.approx((plan.score - best[name],) * 2)
            else:
                assert id in answer.conflict.instances
                assert answer.conflict.smallest


@settings(max_examples=25, deadline=None)
@given(clusters(), experiments())
def test_so_much_more_ram_moves_it_there_and_no_less_makes_it_better_there(nodes, instances):
    if not (made := planned(nodes, instances)):
        return
    scenario, plan = made
    id = scenario.instances[0].id
    for name, answer in counterfactuals(scenario, plan, [(id, None)], LIMIT_S).get(id, {}).items():
        ram = scenario.node(name).ram_gb
        tenths = 300 if answer.more_ram_gb is None else round(answer.more_ram_gb * 10)
        if answer.more_ram_gb is not None:
            richer = scenario.with_node(name, ram_gb=ram + answer.more_ram_gb)
            assert place(richer.nodes, richer.instances).assignments[id] == name
        for less in range(1, tenths, 1 + tenths // 25):
            best = scores(scenario.with_node(name, ram_gb=ram + less / 10), id)
            elsewhere = max((points for other, points in best.items() if other != name), default=0)
            assert best.get(name, 0) <= elsewhere + 1e-6


@settings(max_examples=30, deadline=None)
@given(clusters(), experiments())
def test_an_answer_survives_json_and_leaves_the_plan_as_it_is(nodes, instances):
    if not (made := planned(nodes, instances)):
        return
    scenario, plan = made
    reported = place_and_explain(scenario.nodes, scenario.instances, why=[(scenario.instances[0].id, None)])
    assert replace(reported, counterfactuals=None) == plan
    assert Plan.from_json(json.loads(json.dumps(reported.to_json()))) == reported


def says(nodes, instances, why, **options) -> dict[str, dict[str, str]]:
    plan = place_and_explain(nodes, instances, why=parse_why(why), **options)
    return {id: {node: answer["says"] for node, answer in nodes.items()} for id, nodes in plan.counterfactuals.items()}


def test_the_loss_and_the_ram_that_would_do_in_words():
    hive = [
        one("critic", ram_gb=12, gpu="preferred"),
        one("pessimist", ram_gb=6, preferred_node="rpi1"),
    ]
    assert says(LAB, hive, "pessimist:rpi2,critic:host,critic:rpi1") == {
        "pessimist": {
            "rpi2": "the plan loses 10 points; would move there with 1.6 GB more RAM, or preferred_node: rpi2"
        },
        "critic": {
            "host": "the plan loses 5 points; would move there with preferred_node: host, or a GPU",
            "rpi1": "no plan exists: critic needs 12.0 GB RAM and is on rpi1; rpi1: 7.0 GB RAM free; "
            "nothing tried moves it there, no amount of RAM either",
        },
    }


def test_a_tie_a_constraint_and_a_slot_in_words():
    pair = [one("a", ram_gb=8, gpu="required"), one("b", anti_affinity=["a"])]
    assert says(LAB, pair, ["b:rpi2", "b:jetson"])["b"] == {
        "rpi2": "equally good, decided by the tie rules; would move there with preferred_node: rpi2",
        "jetson": "no plan exists: a needs a GPU; b is on jetson; a and b are to be apart; host, rpi1, rpi2: no GPU; "
        "nothing tried moves it there, no amount of RAM either",
    }


def test_others_that_have_to_make_way_are_named():
    nodes = [cpu("x", ram_gb=4, max_instances=1), cpu("y", ram_gb=20, max_instances=1)]
    answer = says(nodes, [one("a", preferred_node="x"), one("b", preferred_node="y")], "a:y")["a"]["y"]
    assert answer.startswith("the plan loses 20 points (with b to x)")


def test_a_pin_does_not_count_for_the_question_and_lifting_it_is_an_answer():
    nodes = [cpu("x", ram_gb=5), cpu("y", ram_gb=10)]
    answer = says(nodes, [one("a")], "a", pins={"a": "y"})["a"]["x"]
    assert answer == "the plan gains 10 points (without its pin to y); would move there with no pin to y"


def test_ram_and_a_node_in_maintenance():
    nodes = [cpu("x", max_instances=1), jetson(status="MAINTENANCE", max_instances=1)]
    answer = says(nodes, [one("a", ram_gb=9, gpu="preferred")], "a")["a"]["jetson"]
    assert answer == ("no plan exists: a is on jetson; jetson: MAINTENANCE; would move there with jetson HEALTHY again")


def test_ram_for_a_node_that_has_given_out_more_than_it_has():
    nodes = [cpu("x", ram_gb=1, allocated_ram_gb=3), cpu("y", ram_gb=1.1)]
    answer = says(nodes, [one("a", ram_gb=1)], "a:x")["a"]["x"]
    assert answer.endswith("would move there with 3.0 GB more RAM")


def test_without_any_time_it_says_that_it_does_not_know():
    scenario = Scenario(tuple(LAB), (one("a"), one("b")))
    plan = place(scenario.nodes, scenario.instances)
    answers = counterfactuals(scenario, plan, [("a", None)], 1e-9)["a"]
    assert {answer.feasible for answer in answers.values()} == {None}
    assert not any(answer.answered for answer in answers.values())
    assert {str(answer) for answer in answers.values()} == {
        "no plan was found in the time given, and none was proven impossible; "
        "what would move it there was not found in the time given"
    }


def test_a_bound_that_is_not_proven_is_reported_as_one():
    plan = place([cpu("x"), cpu("y")], [one("a")])

    def bound_text(least, most):
        return str(Counterfactual(True, plan.score, (least, most))).split(";")[0]

    assert bound_text(2.0, 5.5) == "the plan loses at least 2 and at most 5.5 points (not proven)"
    assert bound_text(None, 5.5) == "the plan loses at most 5.5 points (not proven)"
    assert bound_text(-3, 0) == "equally good or better (not proven)"
    assert bound_text(-9, -3) == "the plan gains at least 3 points (not proven)"
    assert bound_text(0, 0) == "equally good"


def test_questions_as_they_are_typed():
    assert parse_why("b") == [("b", None)]
    assert parse_why(["b:rpi2, c", "b:rpi2"]) == [("b", "rpi2"), ("c", None)]
    assert parse_why(None) == parse_why("") == []


@pytest.mark.parametrize("typed", [":rpi2", "b:"])
def test_a_question_that_is_none_is_bad_input(typed):
    with pytest.raises(BadInput, match="is not instance or instance:node; give b, or b:rpi2"):
        parse_why(typed)


def test_a_question_about_nobody_is_bad_input_with_a_hint():
    with pytest.raises(BadInput) as bad:
        place_and_explain(LAB, [one("observer")], why=[("observr", None), ("observer", "jetsn")])
    assert [str(fault) for fault in bad.value.faults] == [
        "why: observr: no instance is named 'observr'; did you mean 'observer'?",
        "why: observer:jetsn: no node is named 'jetsn'; did you mean 'jetson'?",
    ]


def test_a_table_of_many_nodes_names_those_with_one_reason_together():
    nodes = [cpu(f"n{number}", ram_gb=4) for number in range(20)] + [jetson()]
    table = place(nodes, [one(f"i{number}", ram_gb=8, gpu="required") for number in range(4)]).table()
    reason = "n0, n1, n2, n3, n4, n5, n6, n7 and 12 more"
    assert [line.split()[0] for line in table.splitlines() if reason in line] == ["i0", "i1", "i2", "i3"]
    assert "ram: needs 8.0 GB, has 4.0 free; gpu: required, has none" in table
