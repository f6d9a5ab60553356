"""JSON schemas of the files that users write, and the faults of a document against them as readable text.

A schema's `description` is the advice at the end of a fault, worded to follow the word "give".
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators

from placement.faults import Fault, unknown

MAX_FAULTS = 1000  # of one kind in one document: bounds the output, and is enough to start fixing
Where = Callable[[Sequence[str | int]], str]


def dotted(path: Sequence[str | int]) -> str:
    """Return a path into a document as text: `instances[0].ram_gb`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def schema_faults(name: str, document: Any, file: str, where: Where = dotted) -> list[Fault]:
    """Return all faults of the document against schemas/<name>.json; `where` turns a path into a fault's key."""
    return list(
        dict.fromkeys(
            Fault(file, where([*error.absolute_path, *steps]), problem)
            for error in islice(_validator(name).iter_errors(document), MAX_FAULTS)
            for steps, problem in _problems(error)
        )
    )


def is_number(_: Any, value: Any) -> bool:
    """Whether a value is a finite number: NaN and infinity would pass other checks, since they compare false."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and math.isfinite(value)
    )


@cache
def _validator(name: str) -> Any:
    checker = Draft202012Validator.TYPE_CHECKER.redefine("number", is_number)
    schema = json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text())
    return validators.extend(Draft202012Validator, type_checker=checker)(schema)  # type: ignore[no-untyped-call] # no stub


def _problems(error: ValidationError) -> Iterator[tuple[list[str], str]]:
    """Yield the problems of a validation error as text, each with its path relative to the error's location."""
    value: Any = error.instance
    limit: Any = error.validator_value
    schema = error.schema
    assert isinstance(schema, dict), "no schema of ours is a bare true or false"  # noqa: S101 - only a bug here fails it
    properties = schema.get("properties", {})
    if error.validator == "required":
        for key in limit:
            if key not in value:
                yield [key], f"missing; give {properties[key]['description']}"
    elif error.validator == "additionalProperties":
        for key in value:
            if key not in properties:
                yield [str(key)], unknown("key", key, properties)
    else:
        yield [], f"{_wrong(str(error.validator), value, limit)}; give {schema['description']}"


def _wrong(rule: str, value: Any, limit: Any) -> str:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    if isinstance(value, str) and "{{" in value:
        return f"{shown} is a template that nothing has resolved"
    match rule:
        case "type":
            return f"{shown} is not {'a finite number' if isinstance(value, float) else _TYPES[limit]}"
        case "enum":
            return f"{shown} is none of these"
        case "exclusiveMinimum":
            return f"{shown} is not above {limit}"
        case "minimum":
            return f"{shown} is below {limit}"
        case "maximum":
            return f"{shown} is above {limit}"
        case "minItems" | "minLength":
            return f"{shown} is too short" if value else "it is empty"
        case "maxItems":
            return f"{len(value)} are more than {limit}"
        case "uniqueItems":
            return f"{shown} names something twice"
    return f"{shown} does not have the right form"


_TYPES = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
}
