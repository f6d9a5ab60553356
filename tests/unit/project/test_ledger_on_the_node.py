"""What the node's modules make of an instance's ledger: deaths are counted, whole lines are copied."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"


def load(path: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PLUGINS / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def instances() -> ModuleType:
    return load("module_utils/instances.py", "node_instances")


@pytest.fixture
def module(instances: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `instance`, with what Ansible would put beside it."""
    monkeypatch.setitem(sys.modules, "ansible.module_utils.instances", instances)
    return load("modules/instance.py", "module_instance")


def write(folder: Path, *ends: dict[str, Any], torn: str = "") -> str:
    (folder / "logs").mkdir()
    (folder / "logs" / "exits.jsonl").write_text("".join(json.dumps(end) + "\n" for end in ends) + torn)
    return str(folder)


def test_every_end_is_a_death_but_a_completion_and_a_stop(tmp_path: Path, instances: ModuleType) -> None:
    causes = ("out_of_memory", "signal", "exit", "node_lost", "fenced", "completed", "stopped")
    ends = [{"unit": "workload", "result": "", "cause": cause} for cause in causes]
    folder = write(tmp_path, *ends, {"unit": "llama", "result": "signal", "cause": "signal"})
    assert (instances.deaths(folder, "workload"), instances.deaths(folder, "llama")) == (5, 1)


def test_a_torn_line_hides_no_other(tmp_path: Path, instances: ModuleType) -> None:
    folder = write(tmp_path, {"unit": "llama", "result": "signal", "cause": "signal"}, torn='{"unit": "llama", "re')
    assert instances.deaths(folder, "llama") == 1


def test_ends_without_a_cause_count_by_systemd_s_result(tmp_path: Path, instances: ModuleType) -> None:
    folder = write(tmp_path, {"unit": "llama", "result": "signal"}, {"unit": "llama", "result": "success"})
    assert instances.deaths(folder, "llama") == 1


def test_without_a_ledger_nobody_died(tmp_path: Path, instances: ModuleType) -> None:
    assert instances.deaths(str(tmp_path), "llama") == 0


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        (b"", b""),
        (b"whole\n", b"whole\n"),
        (b"whole\ntorn", b"whole\n"),
        (b"torn", b""),
        (b"x" * 200_000 + b"\n" + b"y" * 200_000, b"x" * 200_000 + b"\n"),
        (b"y" * 200_000, b""),
    ],
    ids=["empty", "whole", "torn", "only torn", "long", "long and only torn"],
)
def test_a_file_that_grows_is_copied_as_far_as_its_lines_are_whole(
    tmp_path: Path, module: ModuleType, text: bytes, copied: bytes
) -> None:
    (tmp_path / "stream.jsonl").write_bytes(text)
    module.copy_lines(str(tmp_path / "stream.jsonl"), str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == copied
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "stream.jsonl"]
