"""What a node says of its GPUs, by a board, a driver and cards that are files here."""

import os
from pathlib import Path

import pytest

from contract.node_state import Gpu
from node import probe


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any GPU."""
    for name, path in {"BOARD": "compatible", "DRIVER": "gpus", "DEVICE": "nvidia0", "CARDS": "drm"}.items():
        monkeypatch.setattr(probe, name, tmp_path / path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def nvidia_smi(machine: Path, script: str) -> None:
    (machine / "gpus/0000:01:00.0").mkdir(parents=True)
    (machine / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (machine / "nvidia-smi").chmod(0o755)


def test_a_machine_without_a_gpu_has_none(machine: Path) -> None:
    assert probe.gpu(8.0) == Gpu()


def test_a_jetson_shares_its_memory(machine: Path) -> None:
    (machine / "compatible").write_bytes(b"nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0")
    assert probe.gpu(61.4) == Gpu(present=True, memory="unified", memory_gb=61.4)


def test_all_cards_count(machine: Path) -> None:
    nvidia_smi(machine, "echo 24576; echo 24576")
    assert probe.gpu(128.0) == Gpu(present=True, memory="discrete", memory_gb=48.0, cards=(24.0, 24.0))


def test_a_card_that_does_not_say_its_memory_shares_it(machine: Path) -> None:
    nvidia_smi(machine, "echo '[N/A]'")
    assert probe.gpu(119.0) == Gpu(present=True, memory="unified", memory_gb=119.0)


def test_a_driver_that_does_not_answer_is_named(machine: Path) -> None:
    nvidia_smi(machine, "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    found = probe.gpu(64.0)
    assert not found.present
    assert found.problem == "its driver does not answer: Failed to initialize NVML: Driver/library version mismatch"


def test_a_card_of_amd_is_named(machine: Path) -> None:
    (machine / "drm/card0/device").mkdir(parents=True)
    (machine / "drm/card0/device/vendor").write_text("0x1002\n")
    assert probe.gpu(64.0) == Gpu(problem="card0 of AMD, which no build here uses")
