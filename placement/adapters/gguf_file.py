"""Read the header of a model's GGUF file: its metadata, and where its tensors lie.

The gguf package's own reader makes an array for each word of the vocabulary, which took 30 s and 600 MiB for one of
150,000 words; only its table of block sizes is used.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from contract.names import parts_of

MIB = 2**20


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
    part: int = 0  # which file, of a model in several


@dataclass(frozen=True)
class Header:
    """The metadata and tensors of a GGUF file. Of an array of strings (the vocabulary) `fields` holds the length."""

    path: Path
    fields: Mapping[str, Any]
    tensors: tuple[Tensor, ...]


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
    """Read the header of a model's file and its other parts. Raises BrokenModel and UnknownModel, naming the file."""
    header = _read_file(path)
    count = header.fields.get("split.count", 0)
    if not isinstance(count, int) or count <= 1:
        return header
    parts = [Path(part) for part in parts_of(str(path))]
    if len(parts) != count:
        form = f"-00001-of-{count:05}.gguf"
        raise BrokenModel(f"{path}: it is one of {count} parts; give the first, with a name that ends in {form}")
    others = [_read_file(part) for part in parts[1:]]
    tensors = [replace(one, part=number) for number, part in enumerate(others, 1) for one in part.tensors]
    return replace(header, tensors=(*header.tensors, *tensors))


def _read_file(path: Path) -> Header:
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
