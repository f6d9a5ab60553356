"""What real llama-servers have resident is what `placement.adapters.gguf_memory` said they would."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.memory import Shape, needs, peak, write

TOLERANCE = 0.05  # the larger models of tests/bench/memory.py are closer: fixed parts weigh less in them


@pytest.mark.parametrize(
    "shape",
    [
        Shape("F16", 4, 512, 8, 2, 1024, 2000, 1024),
        Shape("Q8_0", 4, 512, 8, 8, 1024, 8000, 768),
        Shape("Q4_0", 6, 512, 8, 4, 1536, 16000, 768, tied=True),
    ],
    ids=lambda shape: shape.type,
)
def test_the_estimate_is_what_llama_server_has_resident_at_its_peak(
    llama_binary: Path, tmp_path: Path, shape: Shape
) -> None:
    model = tmp_path / "model.gguf"
    write(model, shape)
    parts = needs(model, shape.context)
    found = peak(llama_binary, model, shape.context, tmp_path)
    assert found == pytest.approx(sum(parts.values()), rel=TOLERANCE), parts
