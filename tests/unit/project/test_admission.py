"""What a node checks under its lock before it takes an instance in: slots, RAM, GPU memory, ports."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).resolve().parents[3] / "plugins" / "module_utils" / "instances.py"
SPEC = importlib.util.spec_from_file_location("node_instances", PATH)
assert SPEC
assert SPEC.loader
instances = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(instances)

ROOM = {"max_instances": 4, "ram_gb": 56, "gpu_memory_gb": 16}


def comes(port: int = 9000, ram: float = 8, gpu: float = 0, uses_gpu: bool = False) -> dict[str, Any]:
    """The description of an instance that asks to be let in."""
    resources = {"takes_ram_gb": ram, "gpu_memory_gb": gpu, "uses_gpu": uses_gpu}
    return {"ports": {"peer": port, "llama": port + 1}, "resources": resources}


def lives(port: int = 9010, **changes: Any) -> dict[str, Any]:
    """An instance that the node holds, as read_instances() gives it."""
    description = comes(port, **changes)
    return {"status": "RUNNING", "held_ports": list(description["ports"].values()), **description["resources"]}


def test_on_an_empty_node_there_is_room() -> None:
    assert instances.shortages(comes(ram=56), ROOM, []) == []


def test_up_to_the_last_slot_and_the_last_of_the_memory_there_is_room() -> None:
    others = [lives(9010, ram=16), lives(9020, ram=16), lives(9030, ram=16)]
    assert instances.shortages(comes(ram=8), ROOM, others) == []


@pytest.mark.parametrize(
    ("mine", "others", "told"),
    [
        (comes(ram=1), [lives(9010 + 2 * n, ram=1) for n in range(4)], ["4 of 4 slots are taken"]),
        (comes(ram=20), [lives(ram=40)], ["40.0 of 56.0 GB of RAM are taken, it needs 20.0"]),
        (
            comes(gpu=10, uses_gpu=True),
            [lives(gpu=10, uses_gpu=True)],
            ["10.0 of 16.0 GB of GPU memory are taken, it needs 10.0"],
        ),
        (comes(9000), [lives(9001)], ["port 9001 is given out"]),
        (comes(9000), [lives(9000)], ["port 9000, 9001 is given out"]),
    ],
)
def test_each_thing_that_is_lacking_is_named(mine: Any, others: Any, told: list[str]) -> None:
    assert instances.shortages(mine, ROOM, others) == told


def test_all_that_is_lacking_is_named_at_once() -> None:
    full = [lives(9000 + 2 * n, ram=14, gpu=4, uses_gpu=True) for n in range(4)]
    assert len(instances.shortages(comes(gpu=4, uses_gpu=True), ROOM, full)) == 4


def test_what_has_ended_holds_no_room_but_the_port_of_its_tap() -> None:
    """A tap serves until the whole run has ended."""
    ended = {**lives(9000, ram=56), "status": "COMPLETED", "held_ports": [9000]}
    assert instances.shortages(comes(9000, ram=56), ROOM, [ended] * 4) == ["port 9000 is given out"]
    assert instances.shortages(comes(9001, ram=56), ROOM, [ended] * 4) == []


def test_gpu_memory_counts_only_between_those_that_use_the_gpu() -> None:
    assert instances.shortages(comes(gpu=10), ROOM, [lives(gpu=10, uses_gpu=True)]) == []
    assert instances.shortages(comes(gpu=10, uses_gpu=True), ROOM, [lives(gpu=10)]) == []
