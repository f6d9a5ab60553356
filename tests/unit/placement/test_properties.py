"""What holds of every plan, whatever the cluster."""

import json

from cluster import violations
from hypothesis import given, settings
from hypothesis import strategies as st

from placement import Infeasible, Instance, Node, place

SIZES = st.sampled_from([0.1, 0.2, 0.3, 0.7, 1, 1.1, 2, 2.5, 3, 4, 6, 8])


@st.composite
def clusters(draw):
    """A few mixed nodes, some busy or not healthy."""
    nodes = []
    for number in range(draw(st.integers(1, 5))):
        gpu = draw(st.booleans())
        nodes.append(
            Node(
                name=f"n{number * 7}",
                ram_gb=draw(st.sampled_from([1, 4, 8, 16])),
                reserved_ram_gb=draw(st.sampled_from([0, 0.3, 1])),
                allocated_ram_gb=draw(st.sampled_from([0, 0, 0.7, 3])),
                gpu=gpu,
                gpu_memory=draw(st.sampled_from(["unified", "discrete"])),
                gpu_memory_gb=draw(st.sampled_from([2, 4, 8])) if gpu else 0,
                max_instances=draw(st.integers(1, 4)),
                current_instances=draw(st.integers(0, 2)),
                status=draw(st.sampled_from(["HEALTHY"] * 5 + ["DEGRADED", "MAINTENANCE"])),
                used_ports=draw(st.frozensets(st.integers(9000, 9006), max_size=3)),
            )
        )
    return nodes


@st.composite
def experiments(draw):
    """A few instances with relations to one another."""
    ids = [f"i{number}" for number in range(draw(st.integers(1, 6)))]
    instances = []
    for id in ids:
        gpu = draw(st.sampled_from(["none", "none", "preferred", "required"]))
        others = st.lists(st.sampled_from(ids), max_size=2, unique=True)
        apart = draw(others)
        instances.append(
            Instance(
                id=id,
                ram_gb=draw(SIZES),
                gpu=gpu,
                gpu_memory_gb=draw(SIZES) if gpu != "none" else 0,
                affinity=[other for other in draw(others) if other not in apart],
                anti_affinity=apart if draw(st.booleans()) else [],
                preferred_node=draw(st.sampled_from([None, "n0", "n7"])),
            )
        )
    return instances


def outcome(nodes, instances, pins=None) -> str:
    """The plan, or why there is none, byte for byte."""
    try:
        return json.dumps(place(nodes, instances, pins=pins).to_json())
    except Infeasible as error:
        return json.dumps(error.to_json())


@settings(max_examples=100, deadline=None)
@given(clusters(), experiments(), st.data())
def test_no_plan_violates_a_constraint(nodes, instances, data):
    pins = data.draw(
        st.dictionaries(
            st.sampled_from([instance.id for instance in instances]),
            st.sampled_from([n.name for n in nodes]),
            max_size=2,
        )
    )
    try:
        plan = place(nodes, instances, pins=pins)
    except Infeasible as error:
        refused = error.rejections
    else:
        refused = {}
        assert violations(nodes, instances, plan, pins) == []
    assert all(set(why) == {node.name for node in nodes} for why in refused.values())
    assert all(reasons for why in refused.values() for reasons in why.values())


@settings(max_examples=50, deadline=None)
@given(clusters(), experiments(), st.randoms(use_true_random=False))
def test_the_order_of_the_inventory_never_changes_the_plan(nodes, instances, random):
    shuffled = random.sample(nodes, len(nodes))
    assert outcome(shuffled, instances) == outcome(nodes, instances)


@settings(max_examples=50, deadline=None)
@given(clusters(), experiments())
def test_it_does_not_matter_which_of_two_instances_declares_their_relation(nodes, instances):
    def turned(kind):
        return {i.id: [other.id for other in instances if i.id in getattr(other, kind)] for i in instances}

    closer, apart = turned("affinity"), turned("anti_affinity")
    mirrored = [
        Instance(
            id=i.id,
            ram_gb=i.ram_gb,
            gpu=i.gpu,
            gpu_memory_gb=i.gpu_memory_gb,
            preferred_node=i.preferred_node,
            affinity=closer[i.id],
            anti_affinity=apart[i.id],
        )
        for i in instances
    ]
    assert outcome(nodes, mirrored) == outcome(nodes, instances)


@settings(max_examples=50, deadline=None)
@given(clusters(), experiments())
def test_every_score_is_between_0_and_100_and_the_sum_of_its_components(nodes, instances):
    try:
        plan = place(nodes, instances)
    except Infeasible:
        return
    for choice in plan.instances.values():
        for verdict in choice.nodes.values():
            if not verdict.rejected:
                assert 0 <= verdict.score <= 100
                assert abs(verdict.score - sum(verdict.components.values())) < 1e-9
