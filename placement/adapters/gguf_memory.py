"""Estimate an instance's memory from its model's GGUF file before anything runs. Sizes in bytes, GB = 2**30.

An instance is a llama-server, started with the flags of fleet/instances.py, and its workload process. Its parts:

    weights      the file's tensors, memory-mapped, so that the kernel can drop the pages and read them again;
                 llama-server unmaps the part before the first and after the last tensor that is used in place
    repack_copy  a private copy of the tensors that the CPU's fast kernels need in another order
    kv           layers x KV heads x (key + value length) x 2 bytes (F16) x context
    compute      UBATCH x (16 x feed forward + 4 x embedding + 2 x context)
    base         15 MiB, 200 bytes for each entry of the vocabulary, 512 bytes for each token of the context
    workload     the Python process of the built-in workload

Source: shared/reference/llama/est_ram.py (FACTS 3), whose last terms were fitted to real processes; checked again for
these flags by tests/bench/memory.py, which showed that the 512 bytes (the prompt itself) were missing; see
docs/placement.md. `--parallel 1` makes one KV cache of the whole context, and `--cache-ram 0` keeps llama-server from
holding old prompts. The estimate is too high for a model that keeps less than the whole context (sliding windows) or
a mixture of experts that computes with a part of its feed forward.

The module has its own GGUF reader: the gguf package makes an array for each word of the vocabulary, which took 30 s
and 600 MiB for a vocabulary of 150,000 words; only its table of block sizes is used.
"""

import math
import mmap
import os
import re
import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from placement.adapters.experiment import Experiment
from placement.faults import BadInput, Fault
from placement.model import Instance

GB = 2**30
MIB = 2**20
UBATCH = 512  # llama-server's default --ubatch-size
KV_BYTES = 2  # F16, llama-server's default --cache-type-k and -v
KV_STEP = 256  # the context is rounded up to a multiple of this
BASE, PER_WORD, PER_TOKEN = 15 * MIB, 200, 512
WORKLOAD = 24 * MIB  # VmHWM of `python3 -m workload`: see docs/placement.md, Memory
# Types that ggml-cpu repacks (repack.cpp): the union of those for AVX2 and for Arm with dot products.
REPACKED = ("Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4")
CACHE = re.compile(r"\{\{\s*jarfleet_cache\s*\}\}")
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
OFFLOADED = ("blk.", "output")  # prefixes of the tensors that --n-gpu-layers 999 moves to the GPU; the embedding stays
STEP_GB = 0.1


class BrokenModel(ValueError):
    """The file is not a complete GGUF file: llama-server would not load it either."""


class UnknownModel(ValueError):
    """A valid GGUF file whose memory needs this module cannot estimate."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a model."""

    name: str
    type: str  # such as Q4_K
    rows: int
    size: int  # bytes
    start: int  # offset in the file


@dataclass(frozen=True)
class Header:
    """The metadata and tensors of a GGUF file. Of an array of strings (the vocabulary) `fields` holds the length."""

    path: Path
    fields: Mapping[str, Any]
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True)
class Estimate:
    """The memory an instance needs, by part, in bytes. `offloaded`: the share that a GPU holds if it has all layers."""

    weights: int
    repack_copy: int
    kv: int
    compute: int
    base: int
    workload: int
    offloaded: int

    @property
    def parts(self) -> dict[str, int]:
        """Return the parts by name."""
        return {name: size for name, size in asdict(self).items() if name != "offloaded"}

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
        """Return JSON data, in GB: {"predicted_gb", "parts_gb", "offloaded_gb", "ram_gb", "gpu_memory_gb"}."""
        return {
            "predicted_gb": round(self.total / GB, 4),
            "parts_gb": {name: round(size / GB, 4) for name, size in self.parts.items()},
            "offloaded_gb": round(self.offloaded / GB, 4),
            "ram_gb": self.ram_gb,
            "gpu_memory_gb": self.gpu_memory_gb,
        }


def estimate(model: Header, context_size: int, on_gpu: bool = False, repacked: Iterable[str] = REPACKED) -> Estimate:
    """Estimate the memory of an instance with this model and context.

    on_gpu: all layers are on a GPU, so nothing is repacked. Raises UnknownModel if the file lacks what the formula
    needs.
    """
    architecture = model.fields.get("general.architecture")

    def number(key: str, default: Any = None) -> Any:
        found = model.fields.get(f"{architecture}.{key}", default)
        if not isinstance(found, int | list) or isinstance(found, bool):
            raise UnknownModel(f"{model.path}: no {architecture}.{key}, by which its memory could be estimated")
        return found

    layers, width = number("block_count"), number("embedding_length")
    heads, forward = number("attention.head_count"), number("feed_forward_length")
    head = width // (_most(heads) or 1)
    key, value = number("attention.key_length", head), number("attention.value_length", head)
    kv_heads = number("attention.head_count_kv", heads)
    all_kv_heads = sum(kv_heads) if isinstance(kv_heads, list) else kv_heads * layers
    context = math.ceil(context_size / KV_STEP) * KV_STEP
    words = model.fields.get("tokenizer.ggml.tokens", 0)
    copied = [] if on_gpu else _repacked(model.tensors, set(repacked))
    gone = {tensor.name for tensor in copied} - {EMBEDDING}
    mapped = [tensor for tensor in model.tensors if tensor.name not in gone]
    kv = all_kv_heads * (key + value) * KV_BYTES * context
    compute = UBATCH * (16 * _most(forward) + 4 * width + 2 * context)
    return Estimate(
        weights=max((tensor.start + tensor.size for tensor in mapped), default=0)
        - min((tensor.start for tensor in mapped), default=0),
        repack_copy=sum(tensor.size for tensor in copied),
        kv=kv,
        compute=compute,
        base=BASE + PER_WORD * words + PER_TOKEN * context,
        workload=WORKLOAD,
        offloaded=kv + compute + sum(tensor.size for tensor in model.tensors if tensor.name.startswith(OFFLOADED)),
    )


def estimate_all(
    experiment: Experiment, models: Mapping[str, Path], repacked: Iterable[str] = REPACKED
) -> tuple[dict[str, Estimate], list[Fault], list[str]]:
    """Return the estimate of each instance whose model file is given, the faults, and the warnings.

    A broken file is a fault. A model that cannot be estimated is a fault only for an instance that declares no
    `ram_gb`. A declared size below the estimate is a warning.
    """
    headers: dict[Path, Header | None] = {}  # None: broken, and reported
    known: dict[tuple[Path, int, bool], Estimate] = {}
    found: dict[str, Estimate] = {}
    faults: list[Fault] = []
    warnings: list[str] = []
    for instance in experiment.instances:
        path = models.get(instance.id)
        if path is None:
            continue
        case = (path, instance.context_size, instance.gpu == "required")
        try:
            if path not in headers:
                headers[path] = read(path)
            if (header := headers[path]) is None:
                continue
            if case not in known:
                known[case] = estimate(header, instance.context_size, on_gpu=case[2], repacked=repacked)
            found[instance.id] = known[case]
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
    what = f"the model and its context of {instance.context_size} tokens need about"
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


# The file format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, LIST = 8, 9
VERSIONS = (2, 3)
MAX_HEADER = 256 * MIB  # a vocabulary is a few MiB


class _Cursor:
    """Reads forward through the bytes of a file."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0
        self.end = min(len(data), MAX_HEADER)

    def skip(self, count: int) -> int:
        """Skip `count` bytes and return the offset where they began."""
        start, self.at = self.at, self.at + count
        if self.at > self.end:
            raise BrokenModel("it ends within its header")
        return start

    def numbers(self, code: str, count: int = 1) -> tuple[Any, ...]:
        form = f"<{count}{code}"
        return struct.unpack_from(form, self.data, self.skip(struct.calcsize(form)))

    def number(self, code: str) -> Any:
        return self.numbers(code)[0]

    def text(self) -> str:
        length = self.number("Q")
        start = self.skip(length)
        return self.data[start : start + length].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """Read one value; of an array of strings or of arrays only the length."""
        if kind == TEXT:
            return self.text()
        if kind != LIST:
            if kind not in NUMBERS:
                raise BrokenModel(f"its header has a value of type {kind}, which does not exist")
            return self.number(NUMBERS[kind])
        inner, count = self.number("I"), self.number("Q")
        if inner in NUMBERS:
            return list(self.numbers(NUMBERS[inner], count)) if count <= self.end else self.skip(count)
        for _ in range(count):
            if inner == TEXT:
                self.skip(self.number("Q"))
            else:
                self.value(inner)
        return count


def read(path: Path) -> Header:
    """Read the header of a GGUF file. Raises BrokenModel and UnknownModel, naming the file and the fault."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(path, _Cursor(data))
    except BrokenModel as error:
        raise BrokenModel(f"{path}: not a whole GGUF file: {error}; fetch it again") from error
    except (OSError, ValueError) as error:
        if isinstance(error, UnknownModel):
            raise
        raise BrokenModel(f"{path}: cannot be read: {error}") from error


def _read(path: Path, cursor: _Cursor) -> Header:
    if cursor.data[cursor.skip(4) : 4] != b"GGUF":
        raise BrokenModel("it does not begin with GGUF")
    version, tensor_count, field_count = cursor.number("I"), cursor.number("Q"), cursor.number("Q")
    if version not in VERSIONS:
        raise BrokenModel(f"its version is {version}, known are {' and '.join(map(str, VERSIONS))}")
    fields = {cursor.text(): cursor.value(cursor.number("I")) for _ in range(field_count)}
    if fields.get("split.count", 0) > 1:
        raise BrokenModel(f"it is one of {fields['split.count']} parts; join them with llama-gguf-split --merge")
    tensors = []
    for _ in range(tensor_count):
        name = cursor.text()
        shape = cursor.numbers("Q", cursor.number("I"))
        kind, offset = cursor.number("I"), cursor.number("Q")
        try:
            block, block_size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except (KeyError, ValueError):
            raise UnknownModel(f"{path}: tensor {name} is of type {kind}, which this version does not know") from None
        size = math.prod(shape) // block * block_size
        tensors.append(Tensor(name, GGMLQuantizationType(kind).name, math.prod(shape[1:]), size, offset))
    alignment = fields.get("general.alignment", 32)
    data = math.ceil(cursor.at / alignment) * alignment
    placed = tuple(replace(tensor, start=data + tensor.start) for tensor in tensors)
    for tensor in placed:
        if tensor.start + tensor.size > len(cursor.data):
            end = tensor.start + tensor.size
            raise BrokenModel(f"{tensor.name} would end at byte {end}, the file does at {len(cursor.data)}")
    return Header(path, fields, placed)
