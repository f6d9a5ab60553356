"""What is kept of a context is what llama.cpp allocates, by architecture; the figures are llama.cpp's own formulas."""

from __future__ import annotations

from typing import Any

import pytest

from placement.adapters.kv_cache import kept

MIB = 2**20


def fields(architecture: str, **values: Any) -> dict[str, Any]:
    """A file's metadata. `__` stands for a dot."""
    known = {"block_count": 12, "embedding_length": 512, "attention.head_count": 4, "attention.head_count_kv": 4}
    known |= {"attention.key_length": 128, "attention.value_length": 128}
    given = {key.replace("__", "."): value for key, value in values.items()}
    return {
        "general.architecture": architecture,
        **{f"{architecture}.{key}": n for key, n in {**known, **given}.items()},
    }


CELL = 4 * (128 + 128) * 2  # bytes of a layer and token
WINDOW = 1536  # cells: 1024 of the window and 512 of a batch


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "phi3", "of-tomorrow"])
def test_each_layer_keeps_all_of_it_where_no_more_is_known(architecture: str) -> None:
    found = kept(fields(architecture, attention__sliding_window=1024), 32768)
    assert (found.whole, found.windows, found.states) == (12 * CELL * 32768, 0, 0)


@pytest.mark.parametrize(
    ("architecture", "all_of_it"),
    [
        ("gemma2", 6), ("gemma3", 2), ("gemma3n", 2), ("gpt-oss", 6), ("cohere2", 3), ("cohere2moe", 3), ("olmo2", 3),
        ("plamo3", 1), ("lfm2", 0), ("laguna", 3),
    ],
)  # fmt: skip
def test_layers_with_a_window_keep_the_window(architecture: str, all_of_it: int) -> None:
    found = kept(fields(architecture, attention__sliding_window=1024), 32768)
    assert (found.whole, found.windows) == (all_of_it * CELL * 32768, (12 - all_of_it) * CELL * WINDOW)
    short = kept(fields(architecture, attention__sliding_window=1024), 512)
    assert short.whole + short.windows == 12 * CELL * 512, "a window is no longer than the context"
    assert found.total == found.whole + 4 * found.windows, "with three copies to return to"


def test_a_file_may_say_which_layers_have_windows() -> None:
    every_third = fields("gemma3", attention__sliding_window=1024, attention__sliding_window_pattern=3)
    assert kept(every_third, 32768).whole == 4 * CELL * 32768
    some = [True] * 5 + [False] * 7
    for architecture in ("gemma4", "mimo2", "gemma3"):
        named = fields(architecture, attention__sliding_window=1024, attention__sliding_window_pattern=some)
        found = kept(named, 32768)
        assert (found.whole, found.windows) == (7 * CELL * 32768, 5 * CELL * WINDOW)


def test_a_window_may_have_heads_of_its_own_and_layers_may_share_keys() -> None:
    some = [True, False] * 6
    model = fields(
        "gemma4", attention__sliding_window=1024, attention__sliding_window_pattern=some,
        attention__key_length_swa=64, attention__value_length_swa=32, attention__shared_kv_layers=4,
    )  # fmt: skip
    found = kept(model, 32768)
    assert (found.whole, found.windows) == (4 * CELL * 32768, 4 * 4 * (64 + 32) * 2 * WINDOW)


def test_without_a_window_in_the_file_there_is_the_architectures_or_none() -> None:
    assert kept(fields("gemma3"), 32768).windows == 0
    assert kept(fields("gemma2"), 32768).windows == 6 * CELL * (4096 + 512)
    assert kept(fields("llama4", attention__sliding_window=1024), 32768).windows == 9 * CELL * (8192 + 512)
    assert kept(fields("llama4", attention__sliding_window=0), 32768).windows == 0
    assert kept(fields("exaone4", attention__sliding_window=1024), 32768).windows == 0
    assert kept(fields("exaone4", block_count=64, attention__sliding_window=1024), 32768).windows == 48 * CELL * WINDOW


def test_latent_attention_keeps_no_values() -> None:
    model = fields(
        "deepseek2", block_count=27, embedding_length=256, attention__head_count_kv=1, attention__key_length=576,
        attention__value_length=512, attention__key_length_mla=192, attention__value_length_mla=128,
    )  # fmt: skip
    assert kept(model, 32768).total == 27 * 576 * 2 * 32768


def test_sparse_attention_keeps_keys_of_its_index() -> None:
    model = fields(
        "deepseek32", attention__head_count_kv=1, attention__key_length=576, attention__key_length_mla=192,
        attention__value_length_mla=128, attention__indexer__key_length=128,
    )  # fmt: skip
    assert kept(model, 4096).total == 12 * (576 + 128) * 2 * 4096


SSM = {"ssm__conv_kernel": 4, "ssm__inner_size": 512, "ssm__state_size": 128, "ssm__group_count": 2}
STATE = (3 * (512 + 2 * 2 * 128) + 128 * 512) * 4  # bytes of a layer


@pytest.mark.parametrize(
    ("architecture", "values", "attending", "with_state"),
    [
        ("mamba2", SSM, 0, 12),
        ("qwen3next", {**SSM, "full_attention_interval": 4}, 3, 9),
        ("qwen35", SSM, 3, 9),
        ("qwen35moe", {**SSM, "attention__recurrent_layers": [True] * 10 + [False] * 2}, 2, 10),
        ("jamba", {**SSM, "attention__head_count_kv": [0, 0, 0, 4] * 3}, 3, 9),
        ("granitehybrid", {**SSM, "attention__head_count_kv": [0, 4] * 6}, 6, 6),
        ("falcon-h1", SSM, 12, 12),
    ],
)
def test_hybrids_keep_a_state_of_fixed_size_instead(
    architecture: str, values: dict[str, Any], attending: int, with_state: int
) -> None:
    for context in (4096, 65536):
        found = kept(fields(architecture, **values), context)
        assert (found.whole, found.states) == (attending * CELL * context, with_state * STATE)


@pytest.mark.parametrize(
    ("architecture", "values", "state"),
    [
        ("rwkv7", {"wkv__head_size": 64}, 2 * 512 + 512 * 64),
        ("rwkv6", {"wkv__head_size": 64, "token_shift_count": 1}, 512 + 512 * 64),
        ("lfm2", {"shortconv__l_cache": 3, "attention__head_count_kv": [0] * 12}, 512 * 2),
        (
            "kimi-linear",
            {"kda__head_dim": 128, "ssm__conv_kernel": 4, "attention__head_count_kv": [0] * 12},
            3 * 3 * 4 * 128 + 128 * 128 * 4,
        ),
        ("minimax-01", {"full_attention_interval": 13}, 128 * 128 * 4),
    ],
)
def test_each_kind_of_state_has_its_size(architecture: str, values: dict[str, Any], state: int) -> None:
    found = kept(fields(architecture, **values), 4096)
    assert (found.whole, found.states) == (0, 12 * state * 4)


def test_layers_that_guess_ahead_are_left_out() -> None:
    assert kept(fields("glm4moe", nextn_predict_layers=1), 4096).total == 11 * CELL * 4096


def test_a_cache_of_smaller_numbers_is_smaller() -> None:
    q8 = 34 / 32  # bytes of a number in Q8_0
    assert kept(fields("llama"), 4096, q8, q8).total == 12 * 4 * 256 * q8 * 4096
    assert kept(fields("llama"), 4096, q8).total == 12 * 4 * (128 * q8 + 128 * 2) * 4096


@pytest.mark.parametrize("value", [None, "12", True, [], -1, 2**63])
def test_a_file_that_says_nonsense_does_no_harm(value: Any) -> None:
    for key in (
        "attention.head_count_kv",
        "attention.sliding_window",
        "full_attention_interval",
        "nextn_predict_layers",
    ):
        for architecture in ("gemma3", "qwen3next", "jamba"):
            model = {**fields(architecture), f"{architecture}.{key}": value}
            kept(model, 4096)
