"""Placement as experimental design: fair games, drawn plans, and minds that change hardware from repeat to repeat."""

import pytest
import yaml
from cluster import ROOT, cpu, jetson, violations
from hypothesis import given, settings
from hypothesis import strategies as st
from test_properties import clusters, experiments

from placement import BadInput, Design, Infeasible, Instance, Options, load_experiment, place_designed
from placement.design import Schedule, Unbalanced, balanced
from placement.model import NODE_TYPES
from placement.options import MAX_REPEAT
from placement.problem import PORT_RANGE

PI1, PI2 = (cpu(name, node_type="raspberry_pi", ram_gb=8, max_instances=1) for name in ("rpi1", "rpi2"))
HOST = cpu("host", node_type="host", ram_gb=32)
LAB = [jetson(), PI1, PI2, HOST]
PAIR = [Instance(id="a", ram_gb=2), Instance(id="b", ram_gb=2)]
BOTH = Design(counterbalance=("a", "b"))


def schedule(design=BOTH, nodes=LAB, instances=PAIR, pins=None) -> Schedule:
    return balanced(design, nodes, instances, pins or {}, PORT_RANGE, 20)


def assert_balanced(found: Schedule, minds):
    """Over all repeats each mind has been on each type exactly once."""
    for mind in minds:
        assert sorted(row[mind] for row in found.rows) == sorted(found.types)


def test_over_all_repeats_each_mind_is_on_each_type_exactly_once():
    found = schedule()
    assert found.types == ("jetson_orin", "raspberry_pi", "host")
    assert_balanced(found, "ab")


def test_each_repeats_plan_is_on_the_types_of_its_row_and_says_so():
    type_of = {node.name: node.node_type for node in LAB}
    for repeat in (1, 2, 3, 4, 5):
        plan = place_designed(BOTH, LAB, PAIR, repeat=repeat)
        row = {"repeat": repeat, "of": 3, "node_types": {id: type_of[node] for id, node in plan.assignments.items()}}
        assert row.items() <= plan.counterbalance.items()
        assert plan.counterbalance["schedule"] == [dict(row) for row in schedule().rows]
    assert "\nrepeat 5, as 2 of 3: a on a raspberry_pi, b on a host\n" in plan.table()


def test_what_other_runs_hold_never_changes_the_schedule_only_whether_there_is_room():
    busy = [jetson(current_instances=4), PI1, PI2, HOST]
    assert schedule(nodes=busy) == schedule()
    with pytest.raises(Infeasible, match="slots: 4 of 4 taken"):
        place_designed(BOTH, busy, PAIR, repeat=1)
    assert place_designed(BOTH, busy, PAIR, repeat=2).counterbalance["schedule"] == list(schedule().rows)


def test_a_type_on_which_one_of_the_minds_cannot_run_is_left_out_for_all():
    big = [PAIR[0], Instance(id="b", ram_gb=9)]
    assert schedule(instances=big).types == ("jetson_orin", "host")
    unwell = [jetson(), PI1, PI2, cpu("host", node_type="host", status="DEGRADED")]
    assert schedule(nodes=unwell).types == ("jetson_orin", "raspberry_pi")


def test_minds_that_the_usual_start_would_bring_together_begin_elsewhere():
    """a and d would both be on a jetson in repeat 1, where they must be apart."""
    minds = [Instance(id=id, ram_gb=2, anti_affinity=["d"] if id == "a" else []) for id in "abcd"]
    found = schedule(Design(counterbalance=tuple("abcd")), instances=minds)
    assert_balanced(found, "abcd")
    assert not any(row["a"] == row["d"] == "jetson_orin" for row in found.rows)


def test_minds_of_one_type_change_it_together():
    design = Design(same_type=("a", "b"), counterbalance=("a", "c", "b"))
    found = schedule(design, instances=[*PAIR, Instance(id="c", ram_gb=2)])
    assert_balanced(found, "abc")
    assert all(row["a"] == row["b"] for row in found.rows)


def test_fewer_than_two_types_are_refused_with_what_bars_the_others():
    with pytest.raises(Unbalanced) as refused:
        schedule(Design(counterbalance=("a",)), instances=[Instance(id="a", ram_gb=2, gpu="required")])
    assert str(refused.value).splitlines()[0].endswith("needs 2 types of HEALTHY node on which each of a can run; "
                                                       "there is only jetson_orin")  # fmt: skip
    assert "  rpi1  gpu: required, has none" in str(refused.value)
    assert refused.value.to_json()["reason"] in str(refused.value)


def test_a_repeat_that_can_have_no_plan_is_named_with_its_reasons():
    """The Raspberry Pis are taken by minds that never move, so nobody can be on one."""
    minds = [*PAIR, *(Instance(id=id, ram_gb=6) for id in "cd")]
    with pytest.raises(Unbalanced) as refused:
        schedule(instances=minds, pins={"c": "rpi1", "d": "rpi2"})
    assert "fails in repeat 1, with a on a jetson_orin, b on a raspberry_pi:" in str(refused.value)
    assert "slots: 1 of 1 taken" in str(refused.value)


@st.composite
def typed_clusters(draw):
    return [
        cpu(
            f"n{number}",
            node_type=draw(st.sampled_from(NODE_TYPES[1:])),
            ram_gb=draw(st.sampled_from([4, 8])),
            max_instances=draw(st.integers(1, 3)),
            current_instances=draw(st.sampled_from([0, 0, 1])),
        )
        for number in range(draw(st.integers(2, 6)))
    ]


@settings(max_examples=40, deadline=None)
@given(typed_clusters(), experiments(), st.data())
def test_a_schedule_is_exactly_balanced_and_no_repeats_plan_violates_anything(nodes, instances, data):
    ids = [instance.id for instance in instances]
    minds = tuple(data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=3, unique=True)))
    alike = tuple(data.draw(st.lists(st.sampled_from(ids), max_size=2, unique=True)))
    design = Design(same_type=alike if len(alike) == 2 else (), counterbalance=minds)
    try:
        found = balanced(design, nodes, instances, {}, PORT_RANGE, 20)
    except Unbalanced:
        return
    assert_balanced(found, minds)
    type_of = {node.name: node.node_type for node in nodes}
    for repeat in range(1, len(found.rows) + 1):
        try:
            plan = place_designed(design, nodes, instances, "greedy", repeat=repeat)
        except Infeasible:  # other runs hold the room, or greedy finds no way
            continue
        assert violations(nodes, instances, plan, {}) == []
        assert {mind: type_of[plan.assignments[mind]] for mind in minds} == plan.counterbalance["node_types"]
        assert plan.counterbalance["schedule"] == list(found.rows), "separate launches belong to one design"
        assert len({type_of[plan.assignments[id]] for id in design.same_type}) <= 1


@settings(max_examples=30, deadline=None)
@given(clusters(), experiments(), st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_plan_and_it_is_as_good_as_the_first(nodes, instances, seed):
    design = Design(randomize=True)
    try:
        drawn = place_designed(design, nodes, instances, seed=seed)
    except Infeasible:
        return
    assert drawn.to_json() == place_designed(design, nodes, instances, seed=seed).to_json()
    assert drawn.seed == seed
    assert drawn.score == pytest.approx(place_designed(Design(), nodes, instances).score)


def test_a_seed_that_nobody_gave_is_drawn_recorded_and_gives_the_plan_again():
    twins = [cpu(f"n{number}") for number in range(8)]
    drawn = [place_designed(Design(randomize=True), twins, PAIR) for _ in range(6)]
    assert len({plan.seed for plan in drawn}) == 6
    for plan in drawn:
        assert place_designed(Design(randomize=True), twins, PAIR, seed=plan.seed) == plan
        assert f"\ndrawn with seed {plan.seed} among the equally good plans\n" in plan.table()


def test_an_experiment_without_a_design_has_neither_seed_nor_repeat():
    plan = place_designed(Design(), LAB, PAIR)
    assert (plan.seed, plan.counterbalance) == (None, None)


# what a person asks of one launch


@pytest.mark.parametrize(
    "value", ["x", "-1", -1, "1.5", 1.5, "1e3", "inf", "nan", float("nan"), float("inf"), True, [7], {}, "9" * 5000]
)
def test_a_seed_or_repeat_that_is_no_whole_number_in_range_is_a_fault(value):
    with pytest.raises(BadInput) as bad:
        Options.read(seed=value, repeat=value)
    assert [fault.file for fault in bad.value.faults] == ["placement_seed", "repeat"]


@pytest.mark.parametrize(
    "value",
    ["x", 0, "0", -1, "-5", "nan", "inf", "1e400", float("inf"), True, [7], pytest.param(10**5000, id="huge"), 86_401],
)
def test_a_time_limit_that_is_none_is_a_fault(value):
    with pytest.raises(BadInput, match=r"^placement_time_limit: .* is not a number of seconds above 0"):
        Options.read(time_limit=value)


def test_all_wrong_options_are_reported_at_once():
    with pytest.raises(BadInput) as bad:
        Options.read("gredy", "soon", 2**32, MAX_REPEAT + 1)
    assert [fault.file for fault in bad.value.faults] == [
        "strategy", "placement_time_limit", "placement_seed", "repeat",
    ]  # fmt: skip
    assert "did you mean 'greedy'?" in str(bad.value)


def test_text_and_numbers_are_read_alike_and_nothing_is_the_default():
    assert Options.read("greedy", "2.5", "7", "3") == Options("greedy", 2.5, 7, 3) == Options.read("greedy", 2.5, 7, 3)
    assert Options.read() == Options.read("", None, "", None) == Options()


def design_faults(design, options=None, pins=None, instances=PAIR) -> list[str]:
    return [str(fault) for fault in (options or Options()).faults(design, LAB, instances, pins or {})]


def test_a_seed_or_repeat_without_a_design_that_uses_it_is_a_fault_that_says_what_to_add():
    reported = design_faults(Design(), Options(seed=7, repeat=2))
    assert reported[0].startswith("placement_seed: 7 is given, but nothing is drawn; add design: {randomize: true}")
    assert reported[1].startswith("repeat: 2 is given, but nothing changes with it; add design: {counterbalance:")
    assert design_faults(Design(randomize=True, counterbalance=("a",)), Options(seed=7, repeat=2)) == []


def test_greedy_cannot_draw():
    assert design_faults(Design(randomize=True), Options("greedy")) == [
        "strategy: greedy draws nothing, but design.randomize asks for it; use optimal"
    ]


def test_pins_that_contradict_the_design_are_faults_that_name_both():
    alike = Design(same_type=("a", "b"))
    assert "design.same_type wants a and b on one type" in design_faults(alike, pins={"a": "rpi1", "b": "host"})[0]
    assert design_faults(alike, pins={"a": "rpi1", "b": "rpi2"}) == []
    assert "design.counterbalance moves a" in design_faults(BOTH, pins={"a": "rpi1"})[0]
    through = design_faults(Design(same_type=("a", "b"), counterbalance=("a",)), pins={"b": "rpi1"})
    assert (
        "design.counterbalance moves a from type to type of node, and design.same_type has b go with it" in through[0]
    )


@pytest.mark.parametrize("declares", ["a", "b"])
def test_pins_that_contradict_anti_affinity_are_a_fault_whichever_of_the_two_declares_it(declares):
    apart = [Instance(id=id, ram_gb=2, anti_affinity=list({"a", "b"} - {id}) if id == declares else []) for id in "ab"]
    assert design_faults(Design(), pins={"a": "host", "b": "host"}, instances=apart) == [
        "placement: a:host, b:host: pinned together, but anti_affinity keeps them apart; "
        "pin one elsewhere, or leave a pin out"
    ]


# the experiment file


def faults(tmp_path, design) -> list[str]:
    path = tmp_path / "x.yml"
    path.write_text(
        yaml.safe_dump({"name": "x", "instances": [{"id": id, "ram_gb": 2} for id in "abc"], "design": design})
    )
    try:
        load_experiment(path)
    except BadInput as bad:
        return [str(fault).removeprefix(f"{path}: ") for fault in bad.faults]
    return []


@pytest.mark.parametrize(
    ("design", "expected"),
    [
        ({"same_typ": ["a", "b"]}, "design.same_typ: no key is named 'same_typ'; did you mean 'same_type'?"),
        ({"same_type": ["a"]}, "design.same_type: ['a'] is too short; give a list of at least two ids"),
        ({"same_type": ["a", "z"]}, "design.same_type: no instance is named 'z'; there is a, b, c"),
        ({"same_type": ["a", "a"]}, "design.same_type: ['a', 'a'] names something twice"),
        ({"randomize": "yes"}, "design.randomize: 'yes' is not true or false; give true or false"),
        ({"counterbalance": []}, "design.counterbalance: it is empty; give a list of ids"),
        ({"counterbalance": [["a"]]}, "design.counterbalance[0]: ['a'] is not text"),
        (["same_type"], "design: ['same_type'] is not an object"),
    ],
)
def test_a_design_that_is_none_is_a_fault_of_the_file(tmp_path, design, expected):
    assert any(fault.startswith(expected) for fault in faults(tmp_path, design)), faults(tmp_path, design)


def test_a_design_is_loaded_with_its_experiment(tmp_path):
    assert faults(tmp_path, {"same_type": ["a", "b"], "randomize": True, "counterbalance": ["c"]}) == []
    assert load_experiment(tmp_path / "x.yml").design == Design(("a", "b"), True, ("c",))


def test_the_prisoners_dilemma_is_a_fair_game():
    assert load_experiment(ROOT / "experiments" / "prisoners_dilemma.yml").design.same_type == ("player_a", "player_b")
