"""What is kept of a context is what llama.cpp itself says, of models of many architectures."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from placement.adapters import gguf_file, kv_cache
from tests.bench.architectures import ARCHITECTURES, Architecture, write
from tests.bench.memory import newest_server

MIB = 2**20


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Path]:
    """Where a model may lie: they are large, and not kept."""
    path = tmp_path / "model.gguf"
    yield path
    path.unlink(missing_ok=True)


def told(model: Path, context: int, *settings: str) -> int:
    """MiB that llama-fit-params says are taken by the context, rounded down."""
    command = [
        str(newest_server().with_name("llama-fit-params")),
        *("--model", str(model), "--ctx-size", str(context), "--parallel", "1", "--fit-print", "on", *settings),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (host,) = [line.split() for line in done.stdout.splitlines() if line.startswith("Host")]
    _, _, of_context, _ = host
    return int(of_context)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda one: one.name)
def test_it_is_as_large_as_llama_cpp_makes_it(architecture: Architecture, model: Path) -> None:
    write(model, architecture, words=2000, empty=True)
    for context in (4096, 32768):
        found = kv_cache.kept(gguf_file.read(model).fields, context)
        assert int((found.total - found.checkpoints) / MIB) == told(model, context)


def test_so_it_is_with_numbers_of_another_type(model: Path) -> None:
    write(model, next(one for one in ARCHITECTURES if one.name == "gemma3"), words=2000, empty=True)
    found = kv_cache.kept(gguf_file.read(model).fields, 32768, 34 / 32, 2.0)
    assert int((found.total - found.checkpoints) / MIB) == told(model, 32768, "--cache-type-k", "q8_0")
