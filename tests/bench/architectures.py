"""Models of random weights of many architectures, each as small as shows what it keeps of its context.

Metadata and shapes are those that llama.cpp's load_arch_hparams() and load_arch_tensors() ask for (src/models/).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from fleet.artifacts import tiny_model

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD, FORWARD, WORDS = 12, 512, 8, 4, 64, 1536, 32000
EXPERTS, USED, EXPERT = 8, 2, 384
STATE, GROUPS, SSM_HEADS, CONVOLUTION = 64, 2, 8, 4
INNER = SSM_HEADS * STATE
LORA, ROPE, NOPE = 512, 64, 128  # of latent attention
TRAINED = 131072

Tensor = tuple[str, tuple[int, ...], bool]  # name, shape as llama.cpp writes it, whether it is a matrix of weights


@dataclass(frozen=True)
class Architecture:
    """One of them, with the metadata that it needs beside the common ones."""

    name: str
    fields: dict[str, Any]
    layers: int = LAYERS
    tied: bool = False


WINDOW = {"attention.sliding_window": 1024}
RMS, LAYER_NORM = {"attention.layer_norm_rms_epsilon": 1e-5}, {"attention.layer_norm_epsilon": 1e-5}
SSM = {
    "ssm.conv_kernel": CONVOLUTION, "ssm.inner_size": INNER, "ssm.state_size": STATE, "ssm.group_count": GROUPS,
    "ssm.time_step_rank": SSM_HEADS,
}  # fmt: skip
MIXTURE = {"expert_count": EXPERTS, "expert_used_count": USED, "expert_feed_forward_length": EXPERT}
EVERY_FOURTH = [0, 0, 0, KV_HEADS] * (LAYERS // 4)

ARCHITECTURES = (
    Architecture("llama", RMS),
    Architecture("qwen2", RMS),
    Architecture("qwen3", RMS, tied=True),
    Architecture("phi3", RMS),
    Architecture("gemma2", RMS | WINDOW, tied=True),
    Architecture("gemma3", RMS | WINDOW, tied=True),
    Architecture("olmo2", RMS | WINDOW),
    Architecture("cohere2", LAYER_NORM | WINDOW | {"logit_scale": 0.25}, tied=True),
    Architecture("qwen3moe", RMS | MIXTURE),
    Architecture("gpt-oss", RMS | MIXTURE | WINDOW),
    Architecture(
        "deepseek2",
        RMS | MIXTURE | {
            "attention.head_count_kv": 1, "attention.key_length": LORA + ROPE, "attention.value_length": LORA,
            "attention.key_length_mla": NOPE + ROPE, "attention.value_length_mla": NOPE,
            "attention.kv_lora_rank": LORA, "rope.dimension_count": ROPE, "expert_shared_count": 1,
            "leading_dense_block_count": 1,
        },
        layers=27,  # fewer than 26 would need what the larger models have
    ),
    Architecture("qwen3next", RMS | MIXTURE | SSM | {"expert_shared_feed_forward_length": EXPERT}),
    Architecture("lfm2", RMS | {"shortconv.l_cache": 3, "attention.head_count_kv": EVERY_FOURTH}),
    Architecture("granitehybrid", RMS | SSM | {"attention.head_count_kv": EVERY_FOURTH, "ssm.inner_size": 2 * WIDTH}),
    Architecture("falcon-h1", RMS | SSM),
    Architecture("jamba", RMS | SSM | {"attention.head_count_kv": EVERY_FOURTH, "ssm.inner_size": 2 * WIDTH}),
    Architecture("mamba2", RMS | SSM),
    Architecture(
        "rwkv7",
        LAYER_NORM | {
            "wkv.head_size": HEAD, "attention.decay_lora_rank": 64, "attention.iclr_lora_rank": 64,
            "attention.value_residual_mix_lora_rank": 32, "attention.gate_lora_rank": 128,
        },
    ),
)  # fmt: skip


def write(path: Path, architecture: Architecture, words: int = WORDS, *, empty: bool = False) -> None:
    """Write the model: matrices in F16, everything else in F32. empty: with weights of 0, which takes less time."""
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, architecture.name)
    common = {
        "context_length": TRAINED, "embedding_length": WIDTH, "block_count": architecture.layers,
        "feed_forward_length": FORWARD, "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS,
        "attention.key_length": HEAD, "attention.value_length": HEAD, "rope.dimension_count": HEAD,
    }  # fmt: skip
    adds = {int: writer.add_uint32, float: writer.add_float32, list: writer.add_array}
    for key, value in (common | architecture.fields).items():
        adds[type(value)](f"{architecture.name}.{key}", value)
    add_vocabulary(writer, words)
    for name, shape, is_matrix in _tensors(architecture, words):
        if empty:
            weights = np.zeros(shape[::-1], np.float32)
        else:
            weights = random.standard_normal(shape[::-1], np.float32) / shape[0] ** 0.5
        if name.endswith("ssm_a"):
            weights[:] = -1  # else what a state holds would grow without end
        writer.add_tensor(name, weights.astype(np.float16) if is_matrix else weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: gguf.GGUFWriter, words: int) -> None:
    """Add the tiny model's vocabulary, and so many words that there are `words`."""
    tokens = tiny_model.vocabulary()
    more = [(f"<{n}>", -1e4, gguf.TokenType.CONTROL) for n in range(words - len(tokens))]
    tiny_model.add_vocabulary(writer, tokens + more)


def _matrix(name: str, *shape: int) -> Tensor:
    return f"{name}.weight", shape, True


def _tensors(architecture: Architecture, words: int) -> Iterator[Tensor]:
    name = architecture.name
    yield _matrix("token_embd", WIDTH, words)
    yield from _norms("token_embd_norm" if name == "lfm2" else "output_norm")
    if not architecture.tied:
        yield _matrix("output", WIDTH, words)
    if name == "rwkv7":
        yield "output_norm.bias", (WIDTH,), False
        yield from _norms("token_embd_norm")
        yield "token_embd_norm.bias", (WIDTH,), False
    for layer in range(architecture.layers):
        for tensor, shape, is_matrix in BLOCKS.get(name, _dense)(name, layer):
            yield f"blk.{layer}.{tensor}", shape, is_matrix


def _attention(kv_heads: int = KV_HEADS, queries: int = HEADS * HEAD) -> Iterator[Tensor]:
    yield _matrix("attn_q", WIDTH, queries)
    yield _matrix("attn_k", WIDTH, kv_heads * HEAD)
    yield _matrix("attn_v", WIDTH, kv_heads * HEAD)
    yield _matrix("attn_output", HEADS * HEAD, WIDTH)


def _forward() -> Iterator[Tensor]:
    yield _matrix("ffn_gate", WIDTH, FORWARD)
    yield _matrix("ffn_up", WIDTH, FORWARD)
    yield _matrix("ffn_down", FORWARD, WIDTH)


def _experts() -> Iterator[Tensor]:
    yield "ffn_gate_inp.weight", (WIDTH, EXPERTS), False
    yield _matrix("ffn_gate_exps", WIDTH, EXPERT, EXPERTS)
    yield _matrix("ffn_up_exps", WIDTH, EXPERT, EXPERTS)
    yield _matrix("ffn_down_exps", EXPERT, WIDTH, EXPERTS)


def _shared_expert() -> Iterator[Tensor]:
    yield _matrix("ffn_gate_shexp", WIDTH, EXPERT)
    yield _matrix("ffn_up_shexp", WIDTH, EXPERT)
    yield _matrix("ffn_down_shexp", EXPERT, WIDTH)


def _norms(*names: str, size: int = WIDTH) -> Iterator[Tensor]:
    for name in names:
        yield f"{name}.weight", (size,), False


def _ssm(inner: int = INNER) -> Iterator[Tensor]:
    """As mamba2 has it."""
    convolved = inner + 2 * GROUPS * STATE
    yield _matrix("ssm_in", WIDTH, 2 * inner + 2 * GROUPS * STATE + SSM_HEADS)
    yield "ssm_conv1d.weight", (CONVOLUTION, convolved), False
    yield "ssm_conv1d.bias", (convolved,), False
    yield "ssm_dt.bias", (SSM_HEADS,), False
    yield "ssm_a", (1, SSM_HEADS), False
    yield "ssm_d", (1, SSM_HEADS), False
    yield "ssm_norm.weight", (inner // GROUPS, GROUPS), False
    yield _matrix("ssm_out", inner, WIDTH)


def _dense(name: str, layer: int) -> Iterator[Tensor]:
    yield from _norms("attn_norm", "ffn_norm")
    yield from _attention()
    if name in ("qwen3", "gemma3", "qwen3moe"):
        yield from _norms("attn_q_norm", "attn_k_norm", size=HEAD)
    if name in ("gemma2", "gemma3"):
        yield from _norms("post_attention_norm", "post_ffw_norm")
    yield from _experts() if name == "qwen3moe" else _forward()


def _phi3(name: str, layer: int) -> Iterator[Tensor]:
    yield from _norms("attn_norm", "ffn_norm")
    yield _matrix("attn_qkv", WIDTH, (HEADS + 2 * KV_HEADS) * HEAD)
    yield _matrix("attn_output", WIDTH, WIDTH)
    yield _matrix("ffn_up", WIDTH, 2 * FORWARD)
    yield _matrix("ffn_down", FORWARD, WIDTH)


def _olmo2(name: str, layer: int) -> Iterator[Tensor]:
    yield from _norms("attn_q_norm", "post_attention_norm", "post_ffw_norm")
    yield from _norms("attn_k_norm", size=KV_HEADS * HEAD)
    yield from _attention()
    yield from _forward()


def _cohere2(name: str, layer: int) -> Iterator[Tensor]:
    yield from _norms("attn_norm")
    yield from _attention()
    yield from _forward()


def _gpt_oss(name: str, layer: int) -> Iterator[Tensor]:
    yield from _norms("attn_norm", "post_attention_norm")
    yield from _attention()
    yield "attn_output.bias", (WIDTH,), False
    yield "attn_sinks.weight", (HEADS,), False
    yield from _experts()
    yield "ffn_gate_inp.bias", (EXPERTS,), False
    for part, size in (("gate", EXPERT), ("up", EXPERT), ("down", WIDTH)):
        yield f"ffn_{part}_exps.bias", (size, EXPERTS), False


def _deepseek2(name: str, layer: int) -> Iterator[Tensor]:
    yield from _norms("attn_norm", "ffn_norm")
    yield from _norms("attn_kv_a_norm", size=LORA)
    yield _matrix("attn_q", WIDTH, HEADS * (NOPE + ROPE))
    yield _matrix("attn_kv_a_mqa", WIDTH, LORA + ROPE)
    yield _matrix("attn_k_b", NOPE, LORA, HEADS)
    yield _matrix("attn_v_b", LORA, NOPE, HEADS)
    yield _matrix("attn_output", HEADS * NOPE, WIDTH)
    if layer == 0:
        yield from _forward()
    else:
        yield from _experts()
        yield from _shared_expert()


def _qwen3next(name: str, layer: int) -> Iterator[Tensor]:
    yield from _norms("attn_norm", "post_attention_norm")
    if layer % 4 == 3:
        yield from _norms("attn_q_norm", "attn_k_norm", size=HEAD)
        yield from _attention(queries=2 * HEADS * HEAD)
    else:
        convolved = 2 * GROUPS * STATE + INNER
        yield _matrix("attn_qkv", WIDTH, convolved)
        yield _matrix("attn_gate", WIDTH, INNER)
        yield "ssm_conv1d.weight", (CONVOLUTION, convolved), False
        yield "ssm_dt.bias", (SSM_HEADS,), False
        yield "ssm_a", (SSM_HEADS,), False
        yield _matrix("ssm_ba", WIDTH, 2 * SSM_HEADS)
        yield from _norms("ssm_norm", size=STATE)
        yield _matrix("ssm_out", INNER, WIDTH)
    yield from _experts()
    yield from _norms("ffn_gate_inp_shexp")
    yield from _shared_expert()


def _lfm2(name: str, layer: int) -> Iterator[Tensor]:
    yield from _norms("attn_norm", "ffn_norm")
    if EVERY_FOURTH[layer]:
        yield from _norms("attn_q_norm", "attn_k_norm", size=HEAD)
        yield from _attention()
    else:
        yield "shortconv.conv.weight", (3, WIDTH), False
        yield _matrix("shortconv.in_proj", WIDTH, 3 * WIDTH)
        yield _matrix("shortconv.out_proj", WIDTH, WIDTH)
    yield from _forward()


def _granitehybrid(name: str, layer: int) -> Iterator[Tensor]:
    yield from _norms("attn_norm", "ffn_norm")
    yield from _attention() if EVERY_FOURTH[layer] else _ssm(2 * WIDTH)
    yield from _forward()


def _falcon_h1(name: str, layer: int) -> Iterator[Tensor]:
    yield from _norms("attn_norm")
    yield "ffn_norm", (WIDTH,), False
    yield from _ssm()
    yield from _attention()
    yield from _forward()


def _jamba(name: str, layer: int) -> Iterator[Tensor]:
    yield from _norms("attn_norm", "ffn_norm")
    if EVERY_FOURTH[layer]:
        yield from _attention()
    else:
        inner = 2 * WIDTH
        yield _matrix("ssm_in", WIDTH, 2 * inner)
        yield "ssm_conv1d.weight", (CONVOLUTION, inner), False
        yield "ssm_conv1d.bias", (inner,), False
        yield _matrix("ssm_x", inner, SSM_HEADS + 2 * STATE)
        yield from _norms("ssm_dt_norm", size=SSM_HEADS)
        yield _matrix("ssm_dt", SSM_HEADS, inner)
        yield "ssm_dt.bias", (inner,), False
        yield from _norms("ssm_b_norm", "ssm_c_norm", size=STATE)
        yield "ssm_a", (STATE, inner), False
        yield "ssm_d", (inner,), False
        yield _matrix("ssm_out", inner, WIDTH)
    yield from _forward()


def _mamba2(name: str, layer: int) -> Iterator[Tensor]:
    yield from _norms("attn_norm")
    yield from _ssm()


def _rwkv7(name: str, layer: int) -> Iterator[Tensor]:
    for norm in ("attn_norm", "attn_norm_2", "time_mix_ln"):
        yield from _norms(norm)
        yield f"{norm}.bias", (WIDTH,), False
    yield from _norms(*(f"time_mix_{part}" for part in ("w0", "a0", "v0", "k_k", "k_a", "r_k")))
    for part, rank in (("w", 64), ("a", 64), ("v", 32 if layer else 64), ("g", 128)):
        yield _matrix(f"time_mix_{part}1", WIDTH, rank)
        yield _matrix(f"time_mix_{part}2", rank, WIDTH)
    yield "time_mix_lerp_fused.weight", (WIDTH, 1, 1, 6), False
    for part in ("key", "value", "receptance", "output"):
        yield _matrix(f"time_mix_{part}", WIDTH, WIDTH)
    yield "channel_mix_lerp_k.weight", (WIDTH, 1, 1), False
    yield _matrix("channel_mix_key", WIDTH, FORWARD)
    yield _matrix("channel_mix_value", FORWARD, WIDTH)


BLOCKS = {
    "phi3": _phi3, "olmo2": _olmo2, "cohere2": _cohere2, "gpt-oss": _gpt_oss, "deepseek2": _deepseek2,
    "qwen3next": _qwen3next, "lfm2": _lfm2, "granitehybrid": _granitehybrid, "falcon-h1": _falcon_h1, "jamba": _jamba,
    "mamba2": _mamba2, "rwkv7": _rwkv7,
}  # fmt: skip
