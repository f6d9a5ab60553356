"""What a plugin documents is what it takes."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
ACTIONS = sorted(path.stem for path in (PLUGINS / "action").glob("*.py"))
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py"))
IMPLIED = {"type": "str", "required": False, "choices": None, "elements": None, "default": None}
NAMED = object()  # a constant's name in the source, where the documentation has its value


def documentation(name: str) -> dict[str, Any]:
    for node in ast.parse((PLUGINS / "modules" / f"{name}.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DOCUMENTATION":
            return yaml.safe_load(ast.literal_eval(node.value))
    raise AssertionError(f"plugins/modules/{name}.py has no DOCUMENTATION")


def argument_spec(path: Path) -> dict[str, dict[str, Any]] | None:
    """The argument spec in a plugin's source, as written there: an action's ARGUMENTS, a module's argument_spec."""
    for node in ast.walk(ast.parse(path.read_text())):
        spec = None
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ARGUMENTS":
            spec = node.value
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "AnsibleModule":
            spec = next((word.value for word in node.keywords if word.arg == "argument_spec"), None)
        if spec:
            return {key: fields(value) for key, value in entries(spec)}
    return None


def entries(node: ast.expr) -> list[tuple[str, ast.expr]]:
    assert isinstance(node, ast.Dict)
    return [(ast.literal_eval(key), value) for key, value in zip(node.keys, node.values, strict=True) if key]


def fields(node: ast.expr) -> dict[str, Any]:
    return {key: NAMED if isinstance(value, ast.Name) else ast.literal_eval(value) for key, value in entries(node)}


def assert_same(name: str, spec: dict[str, dict[str, Any]]) -> None:
    documented = documentation(name).get("options", {})
    assert set(documented) == set(spec)
    for option, taken in spec.items():
        compared = {key: implied for key, implied in IMPLIED.items() if taken.get(key) is not NAMED}
        stated = {key: documented[option].get(key, implied) for key, implied in compared.items()}
        assert stated == {key: taken.get(key, implied) for key, implied in compared.items()}, option


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_takes_what_its_documentation_says(name: str) -> None:
    spec = argument_spec(PLUGINS / "action" / f"{name}.py")
    assert spec is not None
    assert_same(name, spec)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_takes_what_its_documentation_says(name: str) -> None:
    spec = argument_spec(PLUGINS / "modules" / f"{name}.py")
    if spec is None:
        assert name in ACTIONS, "neither code nor an action plugin"
    else:
        assert_same(name, spec)


@pytest.mark.parametrize("name", MODULES)
def test_everything_is_documented_with_an_example(name: str) -> None:
    text = (PLUGINS / "modules" / f"{name}.py").read_text()
    assert f"  {name}:" in text.partition("EXAMPLES")[2]
    assert all(option["description"] for option in documentation(name).get("options", {}).values())


def test_ansible_doc_prints_what_a_plan_and_a_refusal_return() -> None:
    """The action `place` has a documentation of what it returns that Ansible itself can show."""
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-doc"), "-t", "module", "-j", "place"],
        cwd=PLUGINS.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    reported = json.loads(done.stdout)["place"]
    assert set(reported["doc"]["options"]) == {"request", "cache"}
    assert {"plan", "table", "rejections", "conflict", "remedies", "untried", "faults"} <= set(reported["return"])
    assert "counterfactuals" in reported["return"]["plan"]["contains"]
