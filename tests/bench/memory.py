"""Real llama-servers against the estimate: `python -m tests.bench.memory [--llama-server FILE] [--folder DIR]`.

Generates models with seeded random weights, starts llama-server on each with the project's own flags, has it read a
prompt that fills the context, and compares the peak of its resident memory (VmHWM: private pages and those of the
mapped model file) with `placement.adapters.gguf_memory`, the workload left out.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import yaml

from fleet.launch.specs import server_args
from placement.adapters import gguf_memory
from placement.adapters.gguf_file import MIB
from tests.bench import architectures
from tests.bench.architectures import ARCHITECTURES, add_vocabulary

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("JARFLEET_CACHE") or "~/.cache/jarfleet").expanduser()
WORD = "the "  # one token of the tiny model's vocabulary
START_S = 120
CONTEXTS = (4096, 32768)  # of each architecture
READ_TOKENS = 3000  # of them


@dataclass(frozen=True)
class Shape:
    """A llama of random weights."""

    type: str  # of its matrices
    layers: int
    width: int
    heads: int
    kv_heads: int
    forward: int
    words: int  # of the vocabulary, at least the tiny model's
    context: int
    tied: bool = False  # the embedding is the output too


SHAPES = (
    Shape("F16", 8, 512, 8, 8, 1536, 2000, 4096),
    Shape("F16", 8, 512, 8, 2, 1536, 32000, 16384),
    Shape("Q8_0", 16, 1024, 16, 16, 2816, 32000, 4096),
    Shape("Q8_0", 24, 1024, 16, 4, 2816, 2000, 8192),
    Shape("Q4_0", 16, 1024, 16, 8, 4096, 2000, 2048),
    Shape("Q4_0", 24, 1536, 24, 8, 4096, 32000, 4096),
    Shape("Q4_0", 12, 1024, 16, 4, 4096, 128000, 8192),
)


def write(path: Path, shape: Shape, seed: int = 1) -> None:
    """Write a model of that shape."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    add_vocabulary(writer, shape.words)
    kind = gguf.GGMLQuantizationType[shape.type]

    @cache
    def weights(rows: int, columns: int) -> np.ndarray:  # the same in every layer: quantizing takes its time
        return gguf.quants.quantize(random.standard_normal((rows, columns), np.float32) / columns**0.5, kind)

    def add(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(f"{name}.weight", weights(rows, columns), raw_dtype=kind)

    ones = np.ones(shape.width, np.float32)
    narrow = shape.width // shape.heads * shape.kv_heads
    add("token_embd", shape.words, shape.width)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", ones)
        writer.add_tensor(f"{block}.ffn_norm.weight", ones)
        for name, rows, columns in (
            ("attn_q", shape.width, shape.width),
            ("attn_k", narrow, shape.width),
            ("attn_v", narrow, shape.width),
            ("attn_output", shape.width, shape.width),
            ("ffn_gate", shape.forward, shape.width),
            ("ffn_up", shape.forward, shape.width),
            ("ffn_down", shape.width, shape.forward),
        ):
            add(f"{block}.{name}", rows, columns)
    writer.add_tensor("output_norm.weight", ones)
    if not shape.tied:
        add("output", shape.words, shape.width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def newest_server() -> Path:
    """The llama-server that the project built last for this machine."""
    builds = sorted(CACHE.glob("llama.cpp/builds/*/build.json"), key=lambda path: path.stat().st_mtime)
    ours = [path for path in builds if json.loads(path.read_text())["triple"].startswith(os.uname().machine)]
    here = [path.with_name("bin") / "llama-server" for path in ours]
    if not here:
        raise SystemExit(f"no llama-server for this machine in {CACHE}/llama.cpp/builds: `make llama` builds one")
    return here[-1]


@contextmanager
def server(binary: Path, model: Path, context: int, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A llama-server that is healthy, and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "llama-server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(binary), *server_args(str(model), port, context, 2, str(folder))], stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + START_S
        while time.monotonic() < end and process.poll() is None:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()  # noqa: S310 - ours, on loopback
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise RuntimeError((folder / "llama-server.log").read_text()[-2000:])
        yield process, url
    finally:
        process.kill()
        process.wait()


def peak(binary: Path, model: Path, context: int, folder: Path, tokens: int = 0) -> int:
    """Bytes that llama-server had resident at most (VmHWM), once it had read so many tokens, or a full context (0)."""
    tokens = tokens or context
    with server(binary, model, context, folder) as (process, url):
        body = {"prompt": WORD * (tokens - 64), "n_predict": 8, "ignore_eos": True}
        request = urllib.request.Request(f"{url}/completion", json.dumps(body).encode())  # noqa: S310 - ours, on loopback
        with urllib.request.urlopen(request, timeout=3600) as answer:  # noqa: S310 - ours, on loopback
            read = json.load(answer)["tokens_evaluated"]
        assert tokens - 128 < read <= context, f"{read} tokens of {tokens} were read"
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024


def needs(model: Path, context: int) -> dict[str, int]:
    """The estimate for llama-server alone on this processor, by its parts."""
    repacked = yaml.safe_load((ROOT / "group_vars/all/llama_cpp.yml").read_text())["llama_cpp_builds"]["x86_64"][
        "repacks"
    ]
    parts = gguf_memory.estimate(gguf_memory.read(model), context, repacked=repacked).parts
    return {name: size for name, size in parts.items() if name != "workload"}


def by_architecture(binary: Path, kept: Path | None) -> None:
    """Print a table of architectures, at two contexts each, in MiB. The prompt is what matters, not that it is long."""
    print("architecture | context | parts | predicted | measured | beyond it")
    with tempfile.TemporaryDirectory() as temporary:
        for one in ARCHITECTURES:
            model = (kept or Path(temporary)) / f"{one.name}.gguf"
            if not model.exists():
                architectures.write(model, one)
            for context in CONTEXTS:
                parts = needs(model, context)
                try:
                    found = peak(binary, model, context, Path(temporary), READ_TOKENS)
                except (RuntimeError, OSError) as error:
                    print(f"{one.name} | {context} | {error}", flush=True)
                    break
                total = sum(parts.values())
                told = ", ".join(f"{name} {size / MIB:.0f}" for name, size in parts.items() if size)
                beyond = f"{(total - found) / MIB:+.0f} ({total / found - 1:+.0%})"
                figures = f"{total / MIB:.0f} | {found / MIB:.0f} | {beyond}"
                print(f"{one.name} | {context} | {told} | {figures}", flush=True)


def main() -> None:
    """Print a table, in MiB."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--llama-server", type=Path, help="(default: the newest build in the cache)")
    parser.add_argument("--folder", type=Path, help="where the models are kept (default: a temporary folder)")
    parser.add_argument(
        "--architectures", action="store_true", help="of many architectures, instead of llamas of sizes"
    )
    options = parser.parse_args()
    binary = options.llama_server or newest_server()
    if options.architectures:
        by_architecture(binary, options.folder)
        return
    print("model | layers | KV heads/heads | vocabulary | context | parts | predicted | measured | measured/predicted")
    with tempfile.TemporaryDirectory() as temporary:
        for number, shape in enumerate(SHAPES):
            model = (options.folder or Path(temporary)) / f"{number}.gguf"
            if not model.exists():
                write(model, shape)
            parts = needs(model, shape.context)
            found, total = peak(binary, model, shape.context, Path(temporary)), sum(parts.values())
            cells = [f"{shape.type} {model.stat().st_size / MIB:.0f}", shape.layers, f"{shape.kv_heads}/{shape.heads}"]
            cells += [shape.words, shape.context, ", ".join(f"{name} {size / MIB:.0f}" for name, size in parts.items())]
            cells += [f"{total / MIB:.0f}", f"{found / MIB:.0f}", f"{found / total:.3f}"]
            print(" | ".join(map(str, cells)), flush=True)


if __name__ == "__main__":
    main()
