"""What a node checks under its lock before it takes an instance in: slots, RAM, GPU memory, ports."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract.description import Capacity, InstanceDescription, Resources
from contract.node_state import InstanceState
from node.admission import shortfalls

CAPACITY = Capacity(ram_gb=56, gpu_memory_gb=16, max_instances=4)
FREE = 10.0  # GB of disk


def comes(port: int = 9000, ram: float = 8, gpu: float = 0, uses_gpu: bool = False) -> InstanceDescription:
    """The description of an instance that asks to be let in."""
    resources = Resources(takes_ram_gb=ram, gpu_memory_gb=gpu, uses_gpu=uses_gpu)
    ports = {"peer": port, "llama": port + 1}
    return InstanceDescription("run", "new", Path("/new"), "http://127.0.0.1:1", ports=ports, resources=resources)


def lives(port: int = 9010, **changes: Any) -> InstanceState:
    """An instance that the node holds."""
    resources, ports = comes(port, **changes).resources, (port, port + 1)
    return InstanceState(
        "run",
        "old",
        "RUNNING",
        takes_ram_gb=resources.takes_ram_gb,
        gpu_memory_gb=resources.gpu_memory_gb,
        uses_gpu=resources.uses_gpu,
        held_ports=ports,
    )


def test_on_an_empty_node_there_is_room() -> None:
    assert shortfalls(comes(ram=56), CAPACITY, [], FREE) == []


def test_up_to_the_last_slot_and_the_last_of_the_memory_there_is_room() -> None:
    others = [lives(9010, ram=16), lives(9020, ram=16), lives(9030, ram=16)]
    assert shortfalls(comes(ram=8), CAPACITY, others, FREE) == []


@pytest.mark.parametrize(
    ("mine", "others", "reasons"),
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
def test_each_shortfall_is_named(mine: Any, others: Any, reasons: list[str]) -> None:
    assert shortfalls(mine, CAPACITY, others, FREE) == reasons


def test_all_shortfalls_are_named_at_once() -> None:
    full = [lives(9000 + 2 * n, ram=14, gpu=4, uses_gpu=True) for n in range(4)]
    assert len(shortfalls(comes(gpu=4, uses_gpu=True), CAPACITY, full, FREE)) == 4


def test_what_has_ended_holds_no_room_but_the_port_of_its_relay() -> None:
    """A relay serves until the whole run has ended."""
    ended = replace(lives(9000, ram=56), status="COMPLETED", held_ports=(9000,))
    assert shortfalls(comes(9000, ram=56), CAPACITY, [ended] * 4, FREE) == ["port 9000 is given out"]
    assert shortfalls(comes(9001, ram=56), CAPACITY, [ended] * 4, FREE) == []


def test_gpu_memory_counts_only_between_those_that_use_the_gpu() -> None:
    assert shortfalls(comes(gpu=10), CAPACITY, [lives(gpu=10, uses_gpu=True)], FREE) == []
    assert shortfalls(comes(gpu=10, uses_gpu=True), CAPACITY, [lives(gpu=10)], FREE) == []


def test_a_declared_size_on_the_disk_must_be_free() -> None:
    mine = comes()
    for declared, reasons in ((10.0, []), (10.5, ["10.0 GB of disk are free, it declares 10.5"])):
        wanted = replace(mine, resources=replace(mine.resources, disk_gb=declared))
        assert shortfalls(wanted, CAPACITY, [], FREE) == reasons
