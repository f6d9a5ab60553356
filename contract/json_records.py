"""Reads and writes frozen dataclasses as JSON, checked by their own annotations.

A field may be annotated as str, int, float, bool, Path, Any, another `Record`, Optional[X], Mapping[str, X] or
Tuple[X, ...]. A key that a class does not know is passed over: it may come from a newer version. A key that is left
out, or null, takes the field's default; without a default it is a fault.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import math
import os
import stat
import types
from pathlib import Path
from typing import (
    Any,
    BinaryIO,
    Dict,
    List,
    Mapping,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

R = TypeVar("R", bound="Record")
SHOWN = 60  # characters of a wrong value that a message quotes
UNION_TYPE = getattr(types, "UnionType", Union)  # of `X | None`, which Python 3.8 does not have
_KNOWN: Dict[Any, Mapping[str, Tuple[Any, bool, Tuple[str, ...]]]] = {}  # _fields() of each class, found out once
KINDS: Dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


class ContractError(ValueError):
    """A value is not of the agreed form. The message names the file, the key and what is wrong with it."""


class Record:
    """Base of every dataclass that crosses a border."""

    @classmethod
    def from_json(cls: Type[R], value: Any, where: str) -> R:
        """The record in a JSON value. `where` names its file or message in the ContractError that it may raise."""
        if not isinstance(value, collections.abc.Mapping):
            raise ContractError(f"{where}: expected an object, found {shown(value)}")
        fields = _fields(cls)
        given = [name for name, (_, required, _) in fields.items() if required or value.get(name) is not None]
        return cls(**{name: _read_field(cls, name, value, where) for name in given})

    @classmethod
    def salvage(cls: Type[R], value: Any, where: str) -> Tuple[R, List[str]]:
        """As from_json, but a field that is wrong and has a default takes it: (record, what was wrong, a line each)."""
        if not isinstance(value, collections.abc.Mapping):
            raise ContractError(f"{where}: expected an object, found {shown(value)}")
        sound, faults = dict(value), []
        for name, (_, required, _) in _fields(cls).items():
            try:
                _read_field(cls, name, value, where)
            except ContractError as error:
                if required:
                    raise
                del sound[name]
                faults.append(str(error))
        return cls.from_json(sound, where), faults

    def to_json(self) -> Dict[str, Any]:
        """The record as JSON's own types, keys in the order of the fields."""
        return {field.name: _written(getattr(self, field.name)) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_file(cls: Type[R], path: Path, limit: int, owner: Optional[int] = None) -> R:
        """The record in a JSON file; see read_bytes. Raises ContractError, FileNotFoundError."""
        return cls.from_json(decoded(read_bytes(path, limit, owner), path.name), path.name)


def read_bytes(path: Path, limit: int, owner: Optional[int] = None) -> bytes:
    """A regular file of at most `limit` bytes: nothing that could block or have no end.

    owner: the user id that must own it, unless root does, as in a folder where others can make files too; a link is not
    followed then. Raises ContractError, FileNotFoundError.
    """
    follow = 0 if owner is None else os.O_NOFOLLOW
    try:
        descriptor = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | follow)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ContractError(f"{path.name}: cannot be read: {error.strerror}") from error
    with _checked(descriptor, path, owner) as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise ContractError(f"{path.name}: larger than {limit} bytes")
    return text


def _checked(descriptor: int, path: Path, owner: Optional[int]) -> BinaryIO:
    found = os.fstat(descriptor)
    problem = "" if stat.S_ISREG(found.st_mode) else "not a regular file"
    if not problem and owner is not None and found.st_uid not in (owner, 0):
        problem = "written by the instance, not by its node; it does not count"
    if problem:
        os.close(descriptor)
        raise ContractError(f"{path.name}: {problem}")
    return os.fdopen(descriptor, "rb")


def decoded(text: Union[str, bytes], where: str) -> Any:
    """The value of a JSON text. Raises ContractError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"{where}: not JSON: {error}") from error


def choice(choices: Tuple[str, ...], **options: Any) -> Any:
    """A dataclass field of text that must be one of `choices`; `options` are those of dataclasses.field."""
    return dataclasses.field(metadata={"choices": choices}, **options)


def shown(value: Any) -> str:
    """A value as a message quotes it: short, on one line, without control characters."""
    kind = {dict: "an object", list: "a list", type(None): "null"}.get(type(value))
    if kind:
        return kind
    text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _fields(cls: Any) -> Mapping[str, Tuple[Any, bool, Tuple[str, ...]]]:
    """{name: (annotation, whether it is required, its choices)} of every field that a constructor takes."""
    if cls in _KNOWN:
        return _KNOWN[cls]
    hints = get_type_hints(cls)
    found = _KNOWN[cls] = {
        field.name: (
            hints[field.name],
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
            tuple(field.metadata.get("choices", ())),
        )
        for field in dataclasses.fields(cls)
        if field.init
    }
    return found


def _read_field(cls: Any, name: str, value: Mapping[str, Any], where: str) -> Any:
    """One field of an object. Raises ContractError."""
    annotation, required, choices = _fields(cls)[name]
    given = value.get(name)
    if given is None and not required:
        return None
    if name not in value:
        raise ContractError(f"{where}: {name}: missing")
    found = _read(annotation, given, f"{where}: {name}")
    if choices and found not in choices:
        raise ContractError(f"{where}: {name}: {shown(given)} is none of {', '.join(choices)}")
    return found


def _read(annotation: Any, value: Any, where: str) -> Any:
    """The value as its annotation says. Raises ContractError."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return value
    if origin is Union or origin is UNION_TYPE:  # Optional[X], X | None
        return None if value is None else _read(arguments[0], value, where)
    if origin is collections.abc.Mapping:
        if not isinstance(value, collections.abc.Mapping) or not all(isinstance(key, str) for key in value):
            raise ContractError(f"{where}: expected an object, found {shown(value)}")
        return {str(key): _read(arguments[1], item, f"{where}.{ascii(key)[1:-1]}") for key, item in value.items()}
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ContractError(f"{where}: expected a list, found {shown(value)}")
        return tuple(_read(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return annotation.from_json(value, where)
    return _scalar(annotation, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    """A text, number, flag or path. Subclasses, such as Ansible's tagged strings, become the plain type."""
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    if kind is str and isinstance(value, str):
        return str.__str__(value)
    if kind is Path and isinstance(value, (str, Path)) and "\0" not in str(value):
        return Path(value)
    raise ContractError(f"{where}: expected {KINDS[kind]}, found {shown(value)}")


def _written(value: Any) -> Any:
    """A field's value as JSON's own types."""
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, collections.abc.Mapping):
        return {key: _written(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_written(item) for item in value]
    return str(value) if isinstance(value, Path) else value
