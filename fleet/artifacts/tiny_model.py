"""Write a tiny, valid GGUF file: `python -m fleet.artifacts.tiny_model OUT [--seed 1]`.

The model is for testing whether the system works; the content of its answers is meaningless.

A two-layer llama with random weights. The same seed gives the same bytes: the weights come from SHAKE-256, and gguf is
pinned. Hidden channel 0 is constant, since no layer writes to it, so column 0 of the output weights is a bias for each
token. It keeps bytes, control tokens and the end token from being sampled: an answer is printable ASCII and runs to
max_tokens.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path

import gguf
import numpy as np

LAYERS, WIDTH, HEADS, KV_HEADS, HIDDEN, CONTEXT = 2, 64, 2, 1, 128, 32768
NEVER = -30.0  # the bias of a token that must not be sampled
SCALE = (3.0 / WIDTH) ** 0.5
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = (
    "the of and to in is it you that he was for on are with as his they at be this from have or by one had "
    "not but what all were when we there can an your which their said if do will each about how up out them "
    "then she many some so these would other into has more her two like him see time could no make than first "
    "been its who now people my made over did down only way find use may water long little very after words "
    "called just where most know edge node cluster model token power carbon energy grid solar wind latency "
    "memory thread server request answer"
)


def vocabulary() -> list[tuple[str, float, gguf.TokenType]]:
    """Return each token with its score and type."""
    kind = gguf.TokenType
    tokens = [("<unk>", -1e4, kind.UNKNOWN)]
    tokens += [(text, -1e4, kind.CONTROL) for text in ("<s>", "</s>", "<|im_start|>", "<|im_end|>")]
    tokens += [(f"<0x{byte:02X}>", -1e4, kind.BYTE) for byte in range(256)]
    # The tokenizer merges pairs, so every prefix of a word must be a token too.
    pieces = [piece[:end] for word in WORDS.split() for piece in ("▁" + word, word) for end in range(2, len(piece) + 1)]
    pieces += ["▁", "\n"] + [chr(code) for code in range(33, 127)]
    return tokens + [(piece, -float(rank), kind.NORMAL) for rank, piece in enumerate(dict.fromkeys(pieces))]


def add_vocabulary(writer: gguf.GGUFWriter, tokens: list[tuple[str, float, gguf.TokenType]]) -> None:
    """Add these tokens, which begin as those of `vocabulary` do."""
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([int(kind) for _, _, kind in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(4)
    writer.add_unk_token_id(0)


def write(path: Path, seed: int) -> None:
    """Write the model to `path`."""
    tokens = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random-llama")
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_F16))
    writer.add_vocab_size(len(tokens))
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    add_vocabulary(writer, tokens)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(TEMPLATE)

    def random(name: str, rows: int, columns: int, scale: float) -> np.ndarray:
        raw = hashlib.shake_256(f"{seed}:{name}".encode()).digest(rows * columns * 4)
        unit = np.frombuffer(raw, dtype="<u4").astype(np.float64) / 2**32
        return ((unit * 2 - 1) * scale).astype(np.float32).reshape(rows, columns)

    def add(name: str, weights: np.ndarray) -> None:
        writer.add_tensor(name, weights.astype(np.float16) if weights.ndim == 2 else weights)

    def add_silent(name: str, weights: np.ndarray) -> None:
        weights[0, :] = 0  # writes nothing to channel 0
        add(name, weights)

    ones = np.ones(WIDTH, np.float32)
    narrow = WIDTH // HEADS * KV_HEADS
    embedding = random("emb", len(tokens), WIDTH, 1.0)
    embedding[:, 0] = 1.0
    add("token_embd.weight", embedding)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        add(block + "attn_norm.weight", ones)
        add(block + "attn_q.weight", random(block + "q", WIDTH, WIDTH, 2 * SCALE))
        add(block + "attn_k.weight", random(block + "k", narrow, WIDTH, 2 * SCALE))
        add(block + "attn_v.weight", random(block + "v", narrow, WIDTH, SCALE))
        add_silent(block + "attn_output.weight", random(block + "o", WIDTH, WIDTH, 2 * SCALE))
        add(block + "ffn_norm.weight", ones)
        add(block + "ffn_gate.weight", random(block + "g", HIDDEN, WIDTH, 2 * SCALE))
        add(block + "ffn_up.weight", random(block + "u", HIDDEN, WIDTH, SCALE))
        add_silent(block + "ffn_down.weight", random(block + "d", WIDTH, HIDDEN, 2 * SCALE))
    add("output_norm.weight", ones)
    output = random("out", len(tokens), WIDTH, 2 * SCALE)
    output[:, 0] = [0.0 if kind == gguf.TokenType.NORMAL else NEVER for _, _, kind in tokens]
    add("output.weight", output)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def ensure(path: Path, seed: int = 1) -> None:
    """Write the model to `path` unless that file already holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        write(aside, seed)
        if not path.exists() or path.read_bytes() != aside.read_bytes():
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a tiny, deterministic GGUF.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ensure(options.out, options.seed)
