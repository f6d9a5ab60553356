"""Estimate an instance's memory from its model's GGUF file before anything runs. Sizes in bytes, GB = 2**30.

An instance is a llama-server, started with the flags of fleet/launch/specs.py, and its workload process. Its parts:

    weights      the file's tensors, memory-mapped, so that the kernel can drop the pages and read them again;
                 llama-server unmaps the part before the first and after the last tensor that is used in place
    repack_copy  a private copy of the tensors that the CPU's fast kernels need in another order
    kv           what llama.cpp keeps of the context, by the model's architecture: see kv_cache.py
    compute      UBATCH x (16 x feed forward + 4 x embedding + 2 x context), and more for some architectures
    base         15 MiB, 200 bytes for each entry of the vocabulary, 512 bytes for each token of the context
    workload     the Python process of the built-in workload

Source: shared/reference/llama/est_ram.py (FACTS 3), whose last terms were fitted to real processes; checked again for
these flags by tests/bench/memory.py, which showed that the 512 bytes (the prompt itself) were missing; see
docs/placement.md. `--parallel 1` makes one KV cache of the whole context, and `--cache-ram 0` keeps llama-server from
holding old prompts.
"""

import math
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from placement.adapters import kv_cache
from placement.adapters.experiment import Experiment
from placement.adapters.gguf_file import MIB, BrokenModel, Header, Tensor, UnknownModel, read
from placement.faults import BadInput, Fault
from placement.model import Instance

GB = 2**30
BASE, PER_WORD, PER_TOKEN = 15 * MIB, 200, 512
WORKLOAD = 24 * MIB  # VmHWM of `python3 -m workload`: see docs/placement.md, Memory
# Types that ggml-cpu repacks (repack.cpp): the union of those for AVX2 and for Arm with dot products.
REPACKED = ("Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4")
CACHE = re.compile(r"\{\{\s*jarfleet_cache\s*\}\}")
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
OFFLOADED = ("blk.", "output")  # prefixes of the tensors that --n-gpu-layers 999 moves to the GPU; the embedding stays
STEP_GB = 0.1
# Architectures for whose graphs llama.cpp makes room for 40 nodes a token of a batch (graph_max_nodes), 1 KiB each.
LARGE_GRAPHS = {"qwen3next", "qwen35", "qwen35moe", "qwen4exp", "kimi-linear", "bailingmoe3"}
LARGE_GRAPH = 40 * kv_cache.UBATCH * 1024
CACHE_TYPES = ("cache_type_k", "cache_type_v")  # settings of llama-server; F16 where they are left out
EMBEDDING_MODEL = "an embedding model, which generates no text"
DIFFUSION_MODEL = "a diffusion model, which llama-server does not run"
# What else GGUF files hold, by `general.type` and by architecture.
OTHER_TYPES = {
    "adapter": "an adapter, which changes a model",
    "mmproj": "a projector, which lets a model see or hear",
    "imatrix": "an importance matrix, for quantizing a model",
}
OTHER_ARCHITECTURES = {
    "clip": OTHER_TYPES["mmproj"],
    **dict.fromkeys(("bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "eurobert"), EMBEDDING_MODEL),
    **dict.fromkeys(("jina-bert-v2", "jina-bert-v3", "gemma-embedding", "t5encoder"), EMBEDDING_MODEL),
    **dict.fromkeys(("dream", "llada", "llada-moe", "rnd1"), DIFFUSION_MODEL),
    "wavtokenizer-dec": "a decoder of sound",
}


@dataclass(frozen=True)
class Estimate:
    """The memory an instance needs, by part, in bytes.

    offloaded: the share that a GPU holds if it has all layers. context_size: in tokens, no more than the model was
    trained for; 0: not told.
    """

    weights: int
    repack_copy: int
    kv: int
    compute: int
    base: int
    workload: int
    offloaded: int
    context_size: int = 0

    @property
    def parts(self) -> dict[str, int]:
        """Return the parts by name."""
        return {name: size for name, size in asdict(self).items() if name not in ("offloaded", "context_size")}

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(self.parts.values())

    @property
    def ram_gb(self) -> float:
        """Total in GB, rounded up to a tenth: used for an instance that declares no size."""
        return _up(self.total)

    @property
    def gpu_memory_gb(self) -> float:
        """GPU memory in GB, rounded up to a tenth."""
        return _up(self.offloaded)

    def __str__(self) -> str:
        """`5.3 GB (weights 4.1, repack copy 0.6, kv 0.5, compute 0.1, base 0.0, workload 0.0)`."""
        parts = ", ".join(f"{name.replace('_', ' ')} {figure(size / GB)}" for name, size in self.parts.items())
        return f"{figure(self.total / GB)} GB ({parts})"

    def to_json(self) -> dict[str, Any]:
        """Return JSON data: {"predicted_gb", "parts_gb", "offloaded_gb", "ram_gb", "gpu_memory_gb", "context_size"}."""
        return {
            "predicted_gb": round(self.total / GB, 4),
            "parts_gb": {name: round(size / GB, 4) for name, size in self.parts.items()},
            "offloaded_gb": round(self.offloaded / GB, 4),
            "ram_gb": self.ram_gb,
            "gpu_memory_gb": self.gpu_memory_gb,
            "context_size": self.context_size,
        }


def estimate(
    model: Header,
    context_size: int,
    on_gpu: bool = False,
    repacked: Iterable[str] = REPACKED,
    llama: Mapping[str, Any] = MappingProxyType({}),
) -> Estimate:
    """Estimate the memory of an instance with this model and context.

    on_gpu: all layers are on a GPU, so nothing is repacked. llama: the instance's settings of llama-server. Raises
    UnknownModel if the file lacks what the formula needs, and BrokenModel if it is no language model.
    """
    architecture = _language_architecture(model)
    _number(model, "embedding_length")
    if architecture not in kv_cache.RECURRENT:
        _number(model, "attention.head_count")
    context_size = min(context_size, trained_for(model) or context_size)
    context = math.ceil(context_size / kv_cache.STEP) * kv_cache.STEP
    words = model.fields.get("tokenizer.ggml.tokens", 0)
    copied = [] if on_gpu else _repacked(model.tensors, set(repacked))
    gone = {tensor.name for tensor in copied} - {EMBEDDING}
    # Without an output tensor the embedding is that too: it lies on the GPU a second time.
    on_gpus = OFFLOADED if any(tensor.name == OUTPUT for tensor in model.tensors) else (*OFFLOADED, EMBEDDING)
    mapped = [tensor for tensor in model.tensors if tensor.name not in gone]
    blocks = [_block(llama, name) for name in CACHE_TYPES]
    kept = kv_cache.kept(model.fields, context_size, *(size / numbers for numbers, size in blocks))
    compute = _compute(model, architecture, context, in_full=llama.get("flash_attn") is False)
    return Estimate(
        weights=sum(_span(tensor for tensor in mapped if tensor.part == part) for part in {one.part for one in mapped}),
        repack_copy=sum(tensor.size for tensor in copied),
        kv=kept.total,
        compute=compute,
        base=BASE + PER_WORD * words + PER_TOKEN * context + (LARGE_GRAPH if architecture in LARGE_GRAPHS else 0),
        workload=WORKLOAD,
        offloaded=kept.total
        - kept.checkpoints
        + compute
        + sum(tensor.size for tensor in model.tensors if tensor.name.startswith(on_gpus)),
        context_size=context_size,
    )


def _number(model: Header, key: str, default: int | None = None) -> int:
    """Return a number of the model's metadata, the largest where it has one for each layer. Raise UnknownModel."""
    key = f"{model.fields.get('general.architecture')}.{key}"
    found = model.fields.get(key, default)
    if not isinstance(found, int | list) or isinstance(found, bool):
        raise UnknownModel(f"{model.path}: no {key}, by which its memory could be estimated")
    return _most(found)


def _language_architecture(model: Header) -> str:
    """Return the architecture of a language model. Raise BrokenModel, or UnknownModel for one that is not known."""
    architecture = str(model.fields.get("general.architecture"))
    if other := _other_than_language(model):
        raise BrokenModel(f"{model.path}: {other}; give a language model")
    if architecture in kv_cache.NOT_KNOWN:
        raise UnknownModel(f"{model.path}: what {architecture} keeps of its context cannot be estimated")
    if (layers := _number(model, "block_count")) > kv_cache.MOST_LAYERS:
        raise BrokenModel(f"{model.path}: it says that it has {layers} layers")
    return architecture


def _compute(model: Header, architecture: str, context: int, *, in_full: bool) -> int:
    """Return the bytes of what is computed of a batch. in_full: attention is not computed piece by piece."""
    # A mixture computes with some of its experts at a time, and may have layers without.
    experts = _number(model, "expert_feed_forward_length", 0) * _number(model, "expert_used_count", 0)
    mixed = experts + _number(model, "expert_shared_feed_forward_length", 0)
    width = _number(model, "embedding_length")
    forward = max(_number(model, "feed_forward_length", 0), mixed) or 4 * width
    of_a_token = 16 * forward + 4 * width
    if architecture not in kv_cache.RECURRENT:
        of_a_token += 2 * context  # which tokens it may attend to
    elif architecture.startswith(("rwkv", "arwkv")):
        of_a_token += 6 * 4 * width  # each mixed with the one before, in six ways
    heads = _number(model, "attention.head_count", 0)
    if latent := _number(model, "attention.kv_lora_rank", 0):
        of_a_token += 4 * heads * (_number(model, "attention.key_length", 0) + 2 * latent)
    if in_full:
        of_a_token += 4 * heads * context
    return kv_cache.UBATCH * of_a_token


def _span(tensors: Iterable[Tensor]) -> int:
    """Return the bytes from the first to the last of a file's tensors, which stay mapped."""
    tensors = list(tensors)
    return max(one.start + one.size for one in tensors) - min(one.start for one in tensors)


def _block(llama: Mapping[str, Any], name: str) -> tuple[int, int]:
    """Return how many numbers a block of the cache's type has, and how many bytes."""
    return GGML_QUANT_SIZES[GGMLQuantizationType[str(llama.get(name, "f16")).upper()]]


def cache_type_problems(model: Header, llama: Mapping[str, Any]) -> dict[str, str]:
    """Return why llama-server would not start with such a cache, by setting."""
    found = {}
    for name, length in zip(CACHE_TYPES, kv_cache.lengths(model.fields), strict=True):
        numbers, _ = _block(llama, name)
        if length % numbers:
            found[name] = (
                f"{llama[name]} has blocks of {numbers} numbers, and the model's heads have {length}; give f16"
            )
    numbers, _ = _block(llama, "cache_type_v")
    if numbers > 1 and llama.get("flash_attn") is False:
        found["cache_type_v"] = f"{llama['cache_type_v']} needs flash attention; leave flash_attn out, or give f16"
    return found


def trained_for(model: Header) -> int:
    """Return the longest context, in tokens, that a model was trained for; llama-server uses no more. 0: not told."""
    found = model.fields.get(f"{model.fields.get('general.architecture')}.context_length", 0)
    return found if isinstance(found, int) else 0


def _other_than_language(model: Header) -> str:
    """Return what a file holds instead of a language model; empty if it holds one."""
    architecture = str(model.fields.get("general.architecture"))
    kind = OTHER_TYPES.get(str(model.fields.get("general.type"))) or OTHER_ARCHITECTURES.get(architecture)
    if not kind and model.fields.get(f"{architecture}.pooling_type"):
        kind = EMBEDDING_MODEL
    return f"it is {kind}" if kind else ""


def estimate_all(
    experiment: Experiment, models: Mapping[str, Path], repacked: Iterable[str] = REPACKED
) -> tuple[dict[str, Estimate], list[Fault], list[str]]:
    """Return the estimate of each instance whose model file is given, the faults, and the warnings.

    A broken file is a fault. A model that cannot be estimated is a fault only for an instance that declares no
    `ram_gb`. A declared size below the estimate is a warning.
    """
    headers: dict[Path, Header | None] = {}  # None: broken, and reported
    known: dict[tuple[Path, int, bool, str], Estimate] = {}
    found: dict[str, Estimate] = {}
    faults: list[Fault] = []
    warnings: list[str] = []
    for instance in experiment.instances:
        path = models.get(instance.id)
        if path is None:
            continue
        case = (path, instance.context_size, instance.gpu == "required", str(sorted(instance.llama.items())))
        try:
            if path not in headers:
                headers[path] = read(path)
            if (header := headers[path]) is None:
                continue
            if case not in known:
                known[case] = estimate(header, instance.context_size, case[2], repacked, instance.llama)
            faults += [
                Fault(str(experiment.path), f"instances.{instance.id}.llama.{name}", problem)
                for name, problem in cache_type_problems(header, instance.llama).items()
            ]
            found[instance.id] = known[case]
            if (context := known[case].context_size) < instance.context_size:
                problem = f"{instance.context_size} tokens, but its model was trained for {context}, and gets no more"
                warnings.append(f"instances.{instance.id}.context_size: {problem}")
            warnings += shortfalls(instance, known[case])
        except BrokenModel as error:
            headers[path] = None
            faults.append(Fault("model", "", str(error)))
        except UnknownModel as error:
            key = f"instances.{instance.id}.ram_gb"
            if instance.ram_gb is not None:
                warnings.append(f"{key}: not checked against the model; {error}")
            else:
                faults.append(Fault(str(experiment.path), key, f"missing; {error}; give it"))
    return found, faults, warnings


def sized_here(experiment: Experiment, hostvars: Mapping[str, Mapping[str, Any]]) -> tuple[Experiment, list[str]]:
    """Return the experiment with missing sizes estimated from model files on this machine, and lines for the user.

    The lines are the warnings and what was estimated. Raises BadInput.
    """
    found, faults, warnings = estimate_all(experiment, local_models(experiment, hostvars), repacked_types(hostvars))
    try:
        sized = experiment.sized({id: needs.to_json() for id, needs in found.items()})
    except BadInput as error:
        reported = {fault.key for fault in faults}
        faults += [fault for fault in error.faults if fault.key not in reported]
    if faults:
        raise BadInput(faults)
    return sized, [*(f"warning: {line}" for line in warnings), *left_out(experiment, found)]


def left_out(experiment: Experiment, found: Mapping[str, Estimate]) -> list[str]:
    """Return one line for each instance that declares no `ram_gb`: its estimate and the parts of it."""
    return [
        f"instances.{one.id}.ram_gb: left out, {found[one.id].ram_gb} by its model: {found[one.id]}"
        for one in experiment.instances
        if one.ram_gb is None and one.id in found
    ]


def local_models(experiment: Experiment, hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Path]:
    """Return the model file on this machine of each instance: the instance's, the experiment's or the default model.

    Downloaded models are in the cache under their sha256. `ansible-inventory` leaves templates unresolved; only the
    template of the cache folder, which occurs in the path of a default model, is resolved here.
    """
    variables = next(iter(hostvars.values()), {})
    cache = str(variables.get("jarfleet_cache") or "{{")
    if "{{" in cache:
        cache = os.environ.get("JARFLEET_CACHE") or os.path.expanduser("~/.cache/jarfleet")  # noqa: PTH111 - text
    found = {}
    for instance in experiment.instances:
        model = instance.model or experiment.model or variables.get("default_model") or {}
        named = model.get("path") or f"{cache}/models/{model.get('sha256')}.gguf"
        path = Path(os.path.expanduser(CACHE.sub(lambda _: cache, str(named))))  # noqa: PTH111 - where there is no home
        if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
            found[instance.id] = path
    return found


def shortfalls(instance: Instance, needs: Estimate) -> list[str]:
    """Return one line for each size that an instance declares below the estimate.

    If a GPU is required, it holds what is offloaded, and RAM holds the rest - unless no GPU memory is declared.
    """
    tokens = needs.context_size or instance.context_size
    what = f"the model and its context of {tokens} tokens need about"
    split = instance.gpu == "required" and instance.gpu_memory_gb > 0
    at_least = needs.total - needs.offloaded if split else needs.total
    lines = []
    if instance.ram_gb is not None and instance.ram_gb < at_least / GB:
        rest = f"{figure(at_least / GB)} GB beside the GPU, of {needs}" if split else str(needs)
        declared = f"instances.{instance.id}.ram_gb: {instance.ram_gb} declared"
        lines.append(f"{declared}, but {what} {rest}; it may be killed for memory")
    if split and instance.gpu_memory_gb < needs.offloaded / GB:
        declared = f"instances.{instance.id}.gpu_memory_gb: {instance.gpu_memory_gb} declared"
        lines.append(f"{declared}, but {what} {figure(needs.offloaded / GB)} GB on the GPU; it may not start")
    return lines


def repacked_types(hostvars: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the types that any node's build of llama.cpp repacks (its `repacks`); all types if a node states none."""
    types: set[str] = set()
    for variables in hostvars.values():
        build = (variables.get("llama_cpp_builds") or {}).get(variables.get("llama_cpp_build")) or {}
        types.update(build.get("repacks", REPACKED))
    return tuple(sorted(types))


def figure(gb: float) -> str:
    """Return GB as text: `5.3`, and small amounts with one more digit: `0.04`."""
    return f"{gb:.1f}" if gb >= 1 else f"{gb:.2f}"


def _up(size: int) -> float:
    return round(math.ceil(size / GB / STEP_GB) * STEP_GB, 1)


def _most(value: int | list[int]) -> int:
    """Return the largest of a number that a model may give for each layer."""
    return max(value, default=0) if isinstance(value, list) else value


def _repacked(tensors: Iterable[Tensor], types: Collection[str]) -> list[Tensor]:
    """Return the tensors that are copied for repacking: matrices of these types, in groups of rows.

    The embedding is only looked up, so it is not copied; but in a model without an output tensor it is also the output,
    and then it is both mapped and copied.
    """
    tensors = list(tensors)
    output = OUTPUT if any(tensor.name == OUTPUT for tensor in tensors) else EMBEDDING
    return [
        tensor
        for tensor in tensors
        if tensor.type in types and tensor.rows % 8 == 0 and tensor.name.startswith(("blk.", output))
    ]
