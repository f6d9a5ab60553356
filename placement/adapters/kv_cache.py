"""What llama.cpp keeps of a context, by a model's architecture: keys and values, windows of them, states of fixed size.

Source: llama.cpp 0c1e57098: create_memory() in src/llama-model.cpp, load_arch_hparams() in src/models/, and
src/llama-kv-cache*.cpp, src/llama-memory-*.cpp, src/llama-hparams.cpp. An architecture that is not named here keeps the
keys and values of the whole context in each of its layers, which is the most that one can.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UBATCH = 512  # llama-server's default --ubatch-size
# llama-server's --ctx-checkpoints: copies of windows and states, which cannot be rolled back, to return to when a
# prompt does not go on from the one before. Its default, 32, is many times what the windows themselves take.
CHECKPOINTS = 3
STEP = 256  # a context, and a window, is rounded up to a multiple of this
F32 = 4  # bytes of a number in a state
MOST_LAYERS = 512  # that llama.cpp takes

# Keep one state of a fixed size a layer, and no keys and values.
RECURRENT = {"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"}
# A layer without KV heads keeps a state.
STATE_WITHOUT_HEADS = {
    *("jamba", "plamo2", "granitehybrid", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "kimi-linear"),
    *("bailingmoe3", "kimi-k3", "glm5-next"),
}
# Every so many layers one attends, and the others keep a state, unless the file says which.
ATTENDS_EVERY = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "qwen4exp": 4, "minimax-01": 8}
STATE_AND_HEADS = {"falcon-h1"}  # each layer has both
# Keep more than is told here.
NOT_KNOWN = {"deepseek4", "dflash", "dots3note"}


@dataclass(frozen=True)
class Windows:
    """How an architecture has sliding windows, where its file does not say which layers have one.

    every: one layer of so many attends to the whole context, the last of them, or the first; 0: none does, 1: all do.
    size: the window where the file gives none; 0: then there are no windows. fixed: whatever the file says.
    """

    every: int
    first: bool = False
    size: int = 0
    fixed: bool = False


WINDOWS = {
    "afmoe": Windows(4),
    "cohere2": Windows(4),
    "cohere2moe": Windows(4, first=True),
    "exaone-moe": Windows(4, size=128),
    "exaone4": Windows(4, size=4096),
    "gemma2": Windows(2, size=4096),
    "gemma3": Windows(6),
    "gemma3n": Windows(5),
    "gemma4": Windows(1),
    "gpt-oss": Windows(2),
    "granite_swa": Windows(1),
    "laguna": Windows(4, first=True),
    "lfm2": Windows(0),
    "llama4": Windows(4, size=8192, fixed=True),
    "maple": Windows(1),
    "mellum": Windows(4),
    "mimo2": Windows(1),
    "muse-glimmer": Windows(4),
    "olmo2": Windows(4),
    "plamo3": Windows(8),
    "smallthinker": Windows(4, first=True, size=4096, fixed=True),
    "spark2_5": Windows(1),
    "step35": Windows(1),
}
LAYERS_OF_LARGE_EXAONE4 = 64  # the smaller one has no windows
OWN_KEYS = {"gemma3n": 20}  # layers; those after them use the keys and values of these


@dataclass(frozen=True)
class Kept:
    """Bytes that are kept of a context. whole: as it grows. windows: as it grows up to the window. states: always."""

    whole: int
    windows: int
    states: int

    @property
    def checkpoints(self) -> int:
        """Copies of windows and states."""
        return CHECKPOINTS * (self.windows + self.states)

    @property
    def total(self) -> int:
        """All of it."""
        return self.whole + self.windows + self.states + self.checkpoints


def kept(fields: Mapping[str, Any], context: int, key_bytes: float = 2.0, value_bytes: float = 2.0) -> Kept:
    """Return what is kept of a context of so many tokens.

    fields: the file's metadata. key_bytes, value_bytes: of a number in the cache (2: F16, llama-server's default).
    """
    model = _Model(fields)
    cells = math.ceil(context / STEP) * STEP
    window = math.ceil(min(context, model.window + UBATCH) / STEP) * STEP
    whole = windows = states = 0.0
    for layer in range(model.layers):
        if model.has_state(layer):
            states += model.state * F32
        if not model.has_keys(layer):
            continue
        in_window = model.has_window(layer)
        key, value = model.lengths(in_window)
        bytes_of_cell = model.kv_heads[layer] * (key * key_bytes + value * value_bytes)
        if model.index:  # of sparse attention: one head more
            bytes_of_cell += model.index * key_bytes + value * value_bytes
        if in_window:
            windows += bytes_of_cell * window
        else:
            whole += bytes_of_cell * cells
    return Kept(math.ceil(whole), math.ceil(windows), math.ceil(states))


def lengths(fields: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many numbers a key and a value of one head have; 0 for values that are not kept."""
    return _Model(fields).lengths(in_window=False)


class _Model:
    """The metadata as llama.cpp takes it, with what it takes where a key is missing."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields
        self.architecture = str(fields.get("general.architecture"))
        everything = min(self._number("block_count"), MOST_LAYERS)
        # Layers that only guess more tokens ahead are not used.
        self.layers = everything - min(self._number("nextn_predict_layers"), everything - 1)
        self.width = self._number("embedding_length")
        self.heads = self._each("attention.head_count", 0)
        self.kv_heads = self._each("attention.head_count_kv", self.heads)
        self.index = self._number("attention.indexer.key_length") * (
            3 if self._number("attention.indexer.kpool") else 1
        )
        self.windows = self._windows()
        self.window = self._window()
        self.state = self._state()

    def has_state(self, layer: int) -> bool:
        """Whether a layer keeps a state of a fixed size."""
        if self.architecture in RECURRENT or self.architecture in STATE_AND_HEADS:
            return True
        if self.architecture in STATE_WITHOUT_HEADS:
            return self.kv_heads[layer] == 0
        return self.architecture in ATTENDS_EVERY and not self._attends(layer)

    def has_keys(self, layer: int) -> bool:
        """Whether a layer keeps keys and values."""
        if self.architecture in RECURRENT:
            return False
        if self.architecture in ATTENDS_EVERY:
            return self._attends(layer)
        own = OWN_KEYS.get(self.architecture, self.layers)
        if self.architecture == "gemma4":
            own -= self._number("attention.shared_kv_layers")
        return layer < own

    def has_window(self, layer: int) -> bool:
        """Whether a layer keeps no more than a window of its context."""
        if not self.window or self.windows is None:
            return False
        named = self._fields.get(f"{self.architecture}.attention.sliding_window_pattern")
        if isinstance(named, list):
            return layer < len(named) and bool(named[layer])
        every = named if isinstance(named, int) and not isinstance(named, bool) else self.windows.every
        if every == 0:
            return True
        return layer % every != (0 if self.windows.first else every - 1)

    def lengths(self, in_window: bool) -> tuple[int, int]:
        """Return how many numbers a key and a value of one head have."""
        if self._number("attention.key_length_mla") and self._number("attention.value_length_mla"):
            return self._number("attention.key_length"), 0  # latent attention: the value is a part of the key
        head = self.width // max(max(self.heads, default=0), 1)
        key, value = self._number("attention.key_length", head), self._number("attention.value_length", head)
        if in_window:
            key, value = (
                self._number("attention.key_length_swa", key),
                self._number("attention.value_length_swa", value),
            )
        return key, value

    def _attends(self, layer: int) -> bool:
        named = self._fields.get(f"{self.architecture}.attention.recurrent_layers")
        if isinstance(named, list):
            return layer >= len(named) or not named[layer]
        every = self._number("full_attention_interval", ATTENDS_EVERY[self.architecture])
        return every == 0 or (layer + 1) % every == 0

    def _windows(self) -> Windows | None:
        if self.architecture == "exaone4" and self.layers != LAYERS_OF_LARGE_EXAONE4:
            return None
        return WINDOWS.get(self.architecture)

    def _window(self) -> int:
        if self.windows is None:
            return 0
        given = self._fields.get(f"{self.architecture}.attention.sliding_window")
        if not isinstance(given, int):
            return self.windows.size
        return self.windows.size if given and self.windows.fixed else given

    def _state(self) -> int:
        """Return how many numbers the state of a layer has."""
        heads = max(self.heads, default=0)
        convolution = self._number("ssm.conv_kernel")
        if size := self._number("wkv.head_size"):
            return self._number("token_shift_count", 2) * self.width + self.width * size
        if length := self._number("shortconv.l_cache"):
            return self.width * (length - 1)
        if size := self._number("kda.head_dim"):
            return 3 * (convolution - 1 if convolution else 3) * heads * size + size * size * heads
        if self.architecture == "minimax-01":
            return self.lengths(False)[0] ** 2 * heads
        inner, state = self._number("ssm.inner_size"), self._number("ssm.state_size")
        return max(convolution - 1, 0) * (inner + 2 * self._number("ssm.group_count") * state) + state * inner

    def _number(self, key: str, default: int = 0) -> int:
        found = self._fields.get(f"{self.architecture}.{key}", default)
        return max(found, 0) if isinstance(found, int) and not isinstance(found, bool) else default

    def _each(self, key: str, default: int | list[int]) -> list[int]:
        """Return a number for each layer, which a file may give once for all."""
        found = self._fields.get(f"{self.architecture}.{key}", default)
        if isinstance(found, list):
            return [*found, *[0] * (self.layers - len(found))]
        return [found if isinstance(found, int) else 0] * self.layers
