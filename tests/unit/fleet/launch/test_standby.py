"""Where instances would go if their node were lost."""

from pathlib import Path

import pytest

from fleet.launch.standby import standbys, told
from placement import Experiment, Node, parse_experiment, place

NODES = [
    Node("gpu", gpu=True, ram_gb=32, max_instances=4),
    *(Node(name, ram_gb=8, max_instances=1) for name in ("n1", "n2")),
]


def experiment(*minds: str) -> Experiment:
    return parse_experiment("name: x\ninstances:\n" + "".join(f"  - {{{mind}}}\n" for mind in minds), Path("x.yml"))


def found(known: Experiment, pins: dict[str, str] | None = None) -> dict[str, str | None]:
    plan = place(NODES, known.instances, "optimal", pins)
    return standbys(known, NODES, plan, pins or {})


def test_each_has_a_node_beside_its_own_while_the_others_stay() -> None:
    known = experiment("id: a, ram_gb: 4, gpu: required", "id: b, ram_gb: 4, anti_affinity: [a]")
    assert found(known) == {"a": None, "b": "n2"}, "there is no other GPU"
    assert found(known, {"b": "n1"}) == {"a": None, "b": None}, "a pin keeps it"


def test_of_several_on_a_node_each_is_placed_alone_where_not_all_fit_elsewhere() -> None:
    known = experiment(*(f"id: {id}, ram_gb: 6, preferred_node: gpu" for id in "abc"))
    assert place(NODES, known.instances).assignments == dict.fromkeys("abc", "gpu")
    assert found(known) == dict.fromkeys("abc", "n1")
    two = experiment(*(f"id: {id}, ram_gb: 6, preferred_node: gpu" for id in "ab"))
    assert sorted(found(two).values(), key=str) == ["n1", "n2"], "together"


@pytest.mark.parametrize(
    ("standby", "words"),
    [
        ({}, ""),
        ({"a": None, "b": "n2"}, "if its node is lost: b on n2, made ready too; no other node for a"),
        ({"a": "n1", "b": "n2"}, "if its node is lost: a on n1, b on n2, made ready too"),
    ],
)
def test_it_is_told(standby: dict[str, str | None], words: str) -> None:
    assert told(standby) == words
