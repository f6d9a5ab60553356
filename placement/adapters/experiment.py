"""Find, load and check an experiment file (YAML or JSON); all faults of a file are reported at once."""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML built without libyaml: same result, slower
    from yaml import SafeLoader  # type: ignore[assignment]

from contract.restarts import least_seconds
from placement.adapters.schemas import MAX_FAULTS, Where, dotted, is_number, schema_faults
from placement.design import Design
from placement.faults import BadInput, Fault, unknown
from placement.model import Instance, Node
from placement.problem import pin_faults

SUFFIXES = (".yml", ".yaml", ".json")
MAX_BYTES = 64 * 2**20
MAX_VALUES = 5_000_000  # limit for a document with its aliases expanded
MAX_DEPTH = 100
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
TAKEN = ("PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")  # variables that an instance's unit sets


@dataclass(frozen=True)
class Restart:
    """When a process that died is started again, and after how many starts within how many seconds no more."""

    policy: str = "on-failure"
    limit: int = 10
    within_seconds: float = 60


@dataclass(frozen=True)
class Experiment:
    """A loaded experiment file. `text` is the file's text, `raw` the parsed document."""

    name: str
    instances: list[Instance]
    description: str
    model: Mapping[str, Any] | None
    workload: Mapping[str, Any]
    command: tuple[str, ...]
    design: Design
    environment: Mapping[str, str]  # of every instance; an instance's own adds to it
    restart: Restart
    results: tuple[str, ...]  # patterns of the files that come home, below an instance's folder
    state: tuple[str, ...]  # and of those that a resumed instance gets back
    movable: bool | None  # whether the control loop may move it; None: left out
    path: Path
    text: str
    raw: Mapping[str, Any]

    @property
    def observers(self) -> dict[str, list[str]]:
        """Return {instance: its observers} for the observed instances, in file order."""
        found: dict[str, list[str]] = {}
        for one in self.instances:
            for subject in one.observes:
                found.setdefault(subject, []).append(one.id)
        return found

    def sized(self, sizes: Mapping[str, Mapping[str, float]]) -> "Experiment":
        """Return a copy with missing sizes filled in from {instance: {"ram_gb", "gpu_memory_gb"}}, in GB = 2**30 bytes.

        Sizes given in the file stay, but for a context that is longer than "context_size", what its model allows. GPU
        memory is filled in only for an instance that uses a GPU and gives neither size. Raises BadInput naming each
        instance that still has no size.
        """
        missing = [one.id for one in self.instances if one.ram_gb is None and not sizes.get(one.id)]
        if missing:
            problem = "missing; give it in GB (2**30 bytes), or a model that is on this machine and tells it"
            raise BadInput(Fault(str(self.path), f"instances.{id}.ram_gb", problem) for id in missing)
        instances = []
        for one, raw in zip(self.instances, self.raw["instances"], strict=True):
            if context := int(sizes.get(one.id, {}).get("context_size", 0)):
                one = replace(one, context_size=min(one.context_size, context))
            if one.ram_gb is None:
                both = one.gpu != "none" and "gpu_memory_gb" not in raw
                gpu_memory_gb = sizes[one.id]["gpu_memory_gb"] if both else one.gpu_memory_gb
                one = replace(one, ram_gb=sizes[one.id]["ram_gb"], gpu_memory_gb=gpu_memory_gb)
            instances.append(one)
        return replace(self, instances=instances)


def find_experiment(name_or_path: str, folder: str | Path = "experiments") -> Path:
    """Return the file of an experiment: a name (`split_brain`) is looked up in the folder; a path has a known suffix.

    Known suffixes are .yml, .yaml and .json.
    """
    text, folder = str(name_or_path or "").strip(), Path(folder)
    if text.endswith(SUFFIXES):
        at_home = Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises where there is no such home
        candidates = [at_home, *([] if "/" in text else [folder / text])]
    elif "/" in text or "\\" in text or "\0" in text or text.startswith("."):
        raise BadInput([Fault("experiment", text, f"neither a name nor a path that ends in {', '.join(SUFFIXES)}")])
    else:
        candidates = [folder / f"{text}{suffix}" for suffix in SUFFIXES] if text else []
    for candidate in candidates:
        if os.path.isfile(candidate):  # noqa: PTH113 - Path.is_file raises for a name that is too long
            return candidate
    if "/" in text:
        raise BadInput([Fault("experiment", text, "no such file; give the path of one, or a name in experiments/")])
    there = sorted({path.stem for path in folder.glob("*") if path.suffix in SUFFIXES})
    problem = unknown("experiment", text, there) if text else f"none is given; there is {', '.join(there) or 'none'}"
    raise BadInput([Fault("experiment", "", f"{problem} (in {folder})")])


def load_experiment(
    path: str | Path, nodes: Iterable[str] | None = None, pins: Mapping[str, str] | None = None
) -> Experiment:
    """Load and check an experiment file; if the nodes' names are given, also check the names that it and the pins use.

    Raises BadInput with every fault at once.
    """
    path = Path(path)
    return parse_experiment(read_text(path), path, nodes, pins)


def parse_experiment(
    text: str, path: Path, nodes: Iterable[str] | None = None, pins: Mapping[str, str] | None = None
) -> Experiment:
    """Check the text of an experiment file, as load_experiment does; `path` only names the file in faults."""
    raw, twice, values = parse_document(text, path)
    faults = schema_faults("experiment", raw, str(path), _named(raw))
    faults += islice(_relation_faults(raw, str(path)), MAX_FAULTS)
    faults += islice(_observation_faults(raw, str(path)), MAX_FAULTS)
    faults += islice(_design_faults(raw, str(path)), MAX_FAULTS)
    faults += islice(_environment_faults(raw, str(path)), MAX_FAULTS)
    faults += _restart_faults(raw, str(path))
    if nodes is not None:
        faults += _name_faults(raw, str(path), list(nodes), pins or {})
    reported = {fault.key for fault in faults}
    faults = twice + [fault for fault in values if fault.key not in reported] + faults
    if faults:
        raise BadInput(faults)
    return Experiment(
        name=raw["name"],
        instances=[Instance(**instance) for instance in raw["instances"]],
        description=raw.get("description", ""),
        model=raw.get("model"),
        workload=raw.get("workload", {}),
        command=tuple(raw.get("command", ())),
        design=Design.of(raw.get("design", {})),
        environment=raw.get("environment", {}),
        restart=Restart(**raw.get("restart", {})),
        results=tuple(raw.get("results", ())),
        state=tuple(raw.get("state", ())),
        movable=raw.get("movable"),
        path=path,
        text=text,
        raw=raw,
    )


def check(experiment: Experiment, nodes: Iterable[Node], pins: Mapping[str, str] | None = None) -> list[Fault]:
    """Return a fault for each unknown node or instance that an experiment or its pins name."""
    return _name_faults(experiment.raw, str(experiment.path), [node.name for node in nodes], pins or {})


def _name_faults(raw: Any, source: str, names: Sequence[str], pins: Mapping[str, str]) -> list[Fault]:
    """Return a fault for each preferred node or pin with an unknown name; malformed instances are skipped."""
    listed = raw.get("instances") if isinstance(raw, Mapping) else None
    instances = [one for one in listed or [] if isinstance(one, Mapping)] if isinstance(listed, list) else []
    known = set(names)
    faults = [
        Fault(source, f"instances.{instance.get('id', '?')}.preferred_node", unknown("node", wanted, names))
        for instance in instances
        if isinstance(wanted := instance.get("preferred_node"), str) and wanted not in known
    ]
    ids = [id for instance in instances if isinstance(id := instance.get("id"), str)]
    return faults + list(pin_faults(pins, ids, names))


def parse_pins(pins: str | Sequence[str] | Mapping[str, str] | None, source: str = "placement") -> dict[str, str]:
    """Return pins as {instance: node} from `"a:jetson,b:rpi1"`, a list of such, or a mapping. Raises BadInput."""
    if isinstance(pins, Mapping):
        pairs = [(id, node) for id, node in pins.items()]
    else:
        texts = pins if isinstance(pins, list | tuple) else [pins] if pins else []
        words = [word.strip() for text in texts for word in str(text).split(",")]
        pairs = [tuple(part.strip() for part in word.split(":", 1)) for word in words if word]  # type: ignore[misc]
    parsed: dict[str, str] = {}
    faults = []
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            shown = ":".join(map(str, pair))
            faults.append(Fault(source, "", f"{shown!r} is not instance:node; give pins such as a:jetson,b:rpi1"))
        elif parsed.setdefault(*pair) != pair[1]:
            faults.append(Fault(source, pair[0], f"pinned to {parsed[pair[0]]} and to {pair[1]}; give one"))
    if faults:
        raise BadInput(faults)
    return parsed


class _Loader(SafeLoader):
    """YAML loader that reads dates as text, as in JSON."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
    }


def read_text(path: Path) -> str:
    """Return the text of a file written by a user. Raises BadInput."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES // 2**20} MiB")
        return content.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except OSError as error:
        raise BadInput([Fault(str(path), "", f"cannot be read: {error.strerror}")]) from error
    except ValueError as error:
        raise BadInput([Fault(str(path), "", " ".join(str(error).split()))]) from error


def parse_document(text: str, path: Path) -> tuple[Any, list[Fault], list[Fault]]:
    """Return the document in a text, with the faults for duplicate keys and those for values that JSON cannot hold.

    `path` names the file in faults, and its suffix distinguishes JSON from YAML. Raises BadInput.
    """
    try:
        raw, twice = _parse_json(text) if path.suffix == ".json" else _parse_yaml(text)
        values = list(_value_faults(raw, str(path), _named(raw)))
    except RecursionError as error:
        raise BadInput([Fault(str(path), "", f"nested deeper than {MAX_DEPTH} levels")]) from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadInput([Fault(str(path), line, f"not valid YAML: {error.problem or error.context}")]) from error
    except (ValueError, yaml.YAMLError) as error:  # not JSON, too large
        raise BadInput([Fault(str(path), "", " ".join(str(error).split()))]) from error
    return raw, [Fault(str(path), key, problem) for key, problem in twice], values


def _parse_json(text: str) -> tuple[Any, list[tuple[str, str]]]:
    twice = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document: dict[str, Any] = {}
        for key, value in pairs:
            if key in document:
                twice.append((key, "this key is given twice in one object; keep one"))
            document[key] = value
        return document

    return json.loads(text, object_pairs_hook=unique), twice


def _parse_yaml(text: str) -> tuple[Any, list[tuple[str, str]]]:
    depth = 0
    for event in yaml.parse(text, _Loader):  # first, since libyaml's recursion overflows the stack on deep nesting
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RecursionError
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        twice = list(_given_twice(root))  # before construct_document, which expands merge keys in the nodes
        return (None if root is None else loader.construct_document(root)), twice
    finally:
        loader.dispose()


def _given_twice(root: yaml.Node | None) -> Iterator[tuple[str, str]]:
    """Yield keys that occur twice in one mapping: PyYAML would silently use the last one."""
    todo, seen = [root], set()
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += node.value
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                todo.append(value)
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode) and key.value in first:
                    yield key.value, f"line {line}: this key is given twice, first in line {first[key.value]}; keep one"
                elif isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    first[key.value] = line


def _value_faults(document: Any, file: str, where: Where) -> Iterator[Fault]:
    """Yield faults for values that JSON (a plan, a record of the run) cannot hold. Raises ValueError."""
    todo: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    visited = 0
    while todo:
        path, value = todo.pop()
        visited += 1
        if visited > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values once its aliases are written out")
        if len(path) > MAX_DEPTH:
            raise RecursionError
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    yield Fault(file, where([*path, str(key)]), f"the key {key!r} is not text; put it in quotes")
            todo += [((*path, str(key)), item) for key, item in value.items()]
        elif isinstance(value, list):
            todo += [((*path, index), item) for index, item in enumerate(value)]
        elif isinstance(value, float) and not math.isfinite(value):
            yield Fault(file, where(path), f"{value} is not a finite number")
        elif not isinstance(value, str | int | float | None):
            yield Fault(file, where(path), f"{value!r} is not text, a number, true, false or null")


def _named(raw: Any) -> Where:
    """Return a function that names instances in fault keys by id: `instances.a.ram_gb`, not `instances[0].ram_gb`."""
    ids = dict(enumerate(_ids(raw)))

    def where(path: Sequence[str | int]) -> str:
        match list(path):
            case ["instances", int(index), *rest] if rest[:1] != ["id"] and ids.get(index):
                return dotted(["instances", ids[index], *rest])
        return dotted(path)

    return where


def _ids(raw: Any) -> list[str]:
    """Return each instance's id, or an empty string where the document has none."""
    instances = raw.get("instances") if isinstance(raw, dict) else None
    found = [
        item.get("id") if isinstance(item, dict) else None for item in instances or [] if isinstance(instances, list)
    ]
    return [id if isinstance(id, str) else "" for id in found]


def _relation_faults(raw: Any, file: str) -> Iterator[Fault]:
    """Yield faults that a schema cannot express.

    These are duplicate ids, relations to unknown instances, contradicting relations, and GPU memory without a GPU.
    """
    ids = _ids(raw)
    known = dict.fromkeys(id for id in ids if id)
    counts = Counter(ids)
    relations: dict[str, set[frozenset[str]]] = {"affinity": set(), "anti_affinity": set(), "observes": set()}
    for id in known:
        if counts[id] > 1:
            yield Fault(file, f"instances.{id}", f"{counts[id]} instances have this id; give each its own")
    for id, instance in zip(ids, raw["instances"] if ids else [], strict=True):
        if not id:
            continue
        for kind, pairs in relations.items():
            others = instance.get(kind)
            for other in others if isinstance(others, list) else []:
                if not isinstance(other, str):
                    continue
                if other == id:
                    yield Fault(file, f"instances.{id}.{kind}", "names the instance itself; leave it out")
                elif other not in known:
                    yield Fault(file, f"instances.{id}.{kind}", unknown("instance", other, known))
                pairs.add(frozenset((id, other)))
        if instance.get("gpu_memory_gb") and instance.get("gpu", "none") == "none":
            problem = "given, but the instance uses no GPU; add gpu: required or gpu: preferred, or leave it out"
            yield Fault(file, f"instances.{id}.gpu_memory_gb", problem)
    for pair in sorted(map(sorted, relations["affinity"] & relations["anti_affinity"])):
        problem = f"{' and '.join(pair)} are in both affinity and anti_affinity; keep one"
        yield Fault(file, f"instances.{pair[0]}", problem)


def _observation_faults(raw: Any, file: str) -> Iterator[Fault]:
    """Yield faults for observed instances with a network or observing others: an observed instance must be isolated."""
    instances = {id: one for id, one in zip(_ids(raw), raw["instances"], strict=True) if id} if _ids(raw) else {}
    observers: dict[str, str] = {}
    for id, one in instances.items():
        subjects = one.get("observes")
        for subject in subjects if isinstance(subjects, list) else []:
            if isinstance(subject, str) and subject in instances and subject != id:
                observers.setdefault(subject, id)
    for subject, observer in observers.items():
        one = instances[subject]
        if one.get("network", "isolated") != "isolated":
            problem = (
                f"{one['network']}, but {observer} observes it; an observed instance is isolated: leave network out"
            )
            yield Fault(file, f"instances.{subject}.network", problem)
        if one.get("observes"):
            problem = (
                f"given, but {observer} observes it; an observed instance reaches nobody: leave one of the two out"
            )
            yield Fault(file, f"instances.{subject}.observes", problem)


def _environment_faults(raw: Any, file: str) -> Iterator[Fault]:
    """Yield faults for variables with names that cannot be, or that belong to the project, and for values with NUL."""
    everywhere: dict[str, Any] = {"": raw} if isinstance(raw, dict) else {}
    named = zip(_ids(raw), raw["instances"], strict=True) if _ids(raw) else ()
    for id, holder in {**everywhere, **{id: one for id, one in named if id}}.items():
        variables = holder.get("environment")
        for name, value in variables.items() if isinstance(variables, dict) else ():
            key = f"instances.{id}.environment.{name}" if id else f"environment.{name}"
            if not VARIABLE.fullmatch(str(name)):
                yield Fault(file, key, "not a variable's name; give letters, digits and _, no digit first")
            elif name in TAKEN or name.startswith("JARFLEET_"):
                yield Fault(file, key, "set by Jarfleet itself; leave it out")
            elif "\0" in str(value):
                yield Fault(file, key, "has a null character, which no variable can hold; leave it out")


def _restart_faults(raw: Any, file: str) -> Iterator[Fault]:
    """Yield a fault for a limit that is never reached: what always dies would be started for ever."""
    given = raw.get("restart") if isinstance(raw, dict) else None
    try:
        restart = Restart(**(given or {}))
        least = least_seconds(restart.limit + 1)
    except TypeError:
        return  # the schema says what is wrong
    if restart.policy != "never" and is_number(None, restart.within_seconds) and restart.within_seconds <= least:
        problem = (
            f"{restart.limit} starts and one more take up to {least:g} s, so there may never be more within"
            f" {restart.within_seconds:g} s; give within_seconds above {least:g}, or a smaller limit"
        )
        yield Fault(file, "restart.limit", problem)


def _design_faults(raw: Any, file: str) -> Iterator[Fault]:
    """Yield faults for minds that the design names but the experiment does not have."""
    design = raw.get("design") if isinstance(raw, dict) else None
    known = dict.fromkeys(id for id in _ids(raw) if id)
    for key in ("same_type", "counterbalance"):
        minds = design.get(key) if isinstance(design, dict) else None
        for mind in minds if isinstance(minds, list) else []:
            if isinstance(mind, str) and mind not in known:
                yield Fault(file, f"design.{key}", unknown("instance", mind, known))
