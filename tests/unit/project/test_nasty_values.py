"""Nasty values through every entry point: each ends as data, or as a fault that names it; as nothing else."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.promises import PROMISES
from fleet.artifacts import tiny_model
from fleet.base.terminal import plain
from fleet.intake.original.translate import read as read_original
from fleet.intake.reader import word_faults
from fleet.intake.request import ModelRef, ReleaseRef, Request
from fleet.launch.specs import entries
from fleet.observe.cluster import Cluster
from node import units
from node.errors import NodeError
from placement import BadInput, parse_experiment, parse_pins, place
from placement.adapters import gguf_memory
from placement.explain.whatif import parse_why

RUN = "nasty_20261123T141500Z_3f2a"
NASTY = (
    "", " ", "\n", "\r", "\0", "\t", "\x1b[31mred\x1b[0m", "\x1b]0;owned\x07", "\x85", "\u2028", "\u202egnp.exe",
    "\x7f", "\x9b2J", "a\nUser=root", "a\rUser=root", "${HOME}", "$(id)", "`id`", "; id", "| id", "&& id", "{{ 7*7 }}",
    "{% raw %}", "{{ lookup('pipe', 'id') }}", "../../etc/passwd", "/etc/passwd", "/", "..", "-rf", "--help",
    "-oProxyCommand=id", "%n", "%h", "100%", "a:b", "a:/etc:rbind",
    "<script>alert(1)</script>", "'", '"', "\\", "\\x2f",
    "*a", "&a", "!!python/object/apply:os.system [id]", "null", "~", "true", "1e999", "nan", "0x10", "é", "\U0001f600",
    "x" * 10_000, "CON", "a b", "a,b", "@file", "localhost", "::1", "127.0.0.1\n",
)  # fmt: skip
EXPERIMENT: dict[str, Any] = {
    "name": "nasty",
    "description": "x",
    "command": ["/usr/bin/python3", "main.py", "x"],
    "model": {"path": "x"},
    "workload": {"mode": "split_brain", "research_question": "x"},
    "instances": [
        {"id": "a", "ram_gb": 1, "network": "peers", "preferred_node": "n", "affinity": ["b"], "secrets": ["X"]},
        {
            "id": "b",
            "ram_gb": 1,
            "network": "peers",
            "gpu": "none",
            "config": {"prompt": "x"},
            "model": {"url": "https://x/m", "sha256": "a" * 64},
        },
    ],
}
ALL_KEPT = {"kept": dict.fromkeys(PROMISES, True)}
NODE = {
    "ssh_user": "pi",
    "remote_work_dir": "/home/pi/jar",
    "llama_cpp_build": "x",
    "llama_cpp_builds": {"x": {"server_args": ["-ngl", "99"]}},
    "node_type": "host",
    "node_address": "10.0.0.1",
    "ram_gb": 16,
    "cpu_cores": 4,
    "max_instances": 4,
    "node_probe": {
        "state": {"status": "HEALTHY", "ram_gb": 16, "cores": 4, "promises": {"kept": dict.fromkeys(PROMISES, True)}}
    },
}
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # but for the newline, which ends a line
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a text stands in a document."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, (*path, number))


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The document with another value at that place."""
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def assert_plain(faults: BadInput) -> None:
    shown = "\n".join(plain(str(fault)) for fault in faults.faults)
    assert all(char.isprintable() or char in "\n\t" for char in shown)


def started(document: Any, node: dict[str, Any]) -> None:
    """Everything from an experiment's text to the units: it ends as a fault, or in units with our directives alone."""
    text = yaml.safe_dump(document, allow_unicode=True)
    try:
        cluster = Cluster.from_hostvars({"n": node})
        experiment = parse_experiment(text, Path("nasty.yml"), cluster.hostvars)
        faults = [*cluster.faults(), *word_faults("command", experiment.command)]
        if faults:
            raise BadInput(faults)
        plan = place(cluster.nodes, experiment.instances, strategy="greedy")
        models = {one.id: ModelRef("a" * 64, "", "tiny") for one in experiment.instances}
        request = Request(experiment.name, "nasty.yml", text, ReleaseRef("code", ""), models=models)
        for entry in entries(RUN, request, experiment, plan, cluster):
            for name, unit in units.render(entry.launch_spec, "/opt/llama.cpp/k", "jarfleet01").items():
                assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
                assert directives(unit) <= KNOWN, name
                assert not CONTROL.search(unit)
    except BadInput as error:
        assert_plain(error)
    except NodeError:
        return


def directives(unit: str) -> set[str]:
    """The names at the beginning of the lines, as systemd reads them."""
    return {line.partition("=")[0] for line in unit.split("\n") if line and not line.startswith(("#", "["))}


KNOWN: set[str] = set()


@pytest.fixture(autouse=True, scope="module")
def _known() -> None:
    """The directives of the experiment as it is."""
    cluster = Cluster.from_hostvars({"n": NODE})
    text = yaml.safe_dump(EXPERIMENT)
    experiment = parse_experiment(text, Path("nasty.yml"))
    plan = place(cluster.nodes, experiment.instances, strategy="greedy")
    models = {one.id: ModelRef("a" * 64, "", "tiny") for one in experiment.instances}
    request = Request("nasty", "nasty.yml", text, ReleaseRef("code", ""), models=models)
    for entry in entries(RUN, request, experiment, plan, cluster):
        for unit in units.render(entry.launch_spec, "/opt/llama.cpp/k", "jarfleet01").values():
            KNOWN.update(directives(unit))
    assert "ExecStart" in KNOWN


@pytest.mark.parametrize("place", list(places(EXPERIMENT)), ids=lambda path: ".".join(map(str, path)))
def test_in_an_experiment_file(place: tuple[Any, ...]) -> None:
    for value in NASTY:
        started(put(EXPERIMENT, place, value), NODE)


@QUICK
@given(st.sampled_from(list(places(EXPERIMENT))), st.text() | st.integers() | st.none() | st.lists(st.text(max_size=3)))
def test_anything_in_an_experiment_file(place: tuple[Any, ...], value: Any) -> None:
    started(put(EXPERIMENT, place, value), NODE)


@QUICK
@given(st.text() | st.binary().map(lambda some: some.decode("latin-1")))
def test_any_text_as_an_experiment_file(text: str) -> None:
    try:
        parse_experiment(text, Path("nasty.yml"))
    except BadInput as error:
        assert_plain(error)


@pytest.mark.parametrize("key", [key for key in NODE if isinstance(NODE[key], str)])
def test_in_an_inventory(key: str) -> None:
    for value in (*NASTY, 1, None, ["a"], {"a": 1}):
        started(EXPERIMENT, {**NODE, key: value})
    for value in NASTY:
        started(EXPERIMENT, {**NODE, "llama_cpp_builds": {"x": {"server_args": [value]}}})


@pytest.mark.parametrize("value", NASTY)
def test_as_the_name_of_a_host(value: str) -> None:
    cluster = Cluster.from_hostvars({value: NODE})
    faults = cluster.faults()
    assert faults or value in ("CON", "x", "a:b", "localhost", "1e999", "nan", "0x10", "null", "true"), value
    assert all(char.isprintable() for fault in faults for char in plain(str(fault)))


@pytest.mark.parametrize("read", [parse_pins, parse_why])
def test_in_extra_vars(read: Any) -> None:
    for value in NASTY:
        for given_value in (value, f"a:{value}", f"{value}:n", [value], {"a": value} if read is parse_pins else value):
            try:
                read(given_value)
            except BadInput as error:
                assert_plain(error)


CONFIG = json.loads((Path(__file__).parents[1] / "fleet/intake/original/bargain_a.json").read_text())


@pytest.mark.parametrize("place", list(places(CONFIG)), ids=lambda path: ".".join(map(str, path)))
def test_in_a_config_of_the_original(tmp_path: Path, place: tuple[Any, ...]) -> None:
    for value in NASTY:
        file = tmp_path / "config.json"
        file.write_text(json.dumps(put(CONFIG, place, value)))
        try:
            original = read_original([str(file)], tmp_path)
        except BadInput as error:
            assert_plain(error)
            continue
        started(original.document, NODE)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    tiny_model.ensure(path)
    return path.read_bytes()


@QUICK
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=8), st.integers(0, 5000))
def test_in_a_models_header(tmp_path: Path, tiny: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    """A model is somebody's file: what is wrong with it is said, in time, without more memory than it has bytes."""
    content = bytearray(tiny)
    for at, byte in changes:
        content[at] = byte
    file = tmp_path / "m.gguf"
    for bytes_of_it in (content, content[:cut]):
        file.write_bytes(bytes_of_it)
        try:
            gguf_memory.estimate(gguf_memory.read(file), 4096)
        except (gguf_memory.BrokenModel, gguf_memory.UnknownModel):
            continue
