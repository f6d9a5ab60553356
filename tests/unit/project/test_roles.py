"""Defaults, argument specs and README of every role agree."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.+?) \| (.+) \|$", re.M)


def read(role: str, path: str) -> Any:
    file = ROOT / "roles" / role / path
    return (yaml.safe_load(file.read_text()) if file.exists() else None) or {}


def readme(role: str) -> dict[str, tuple[str, str]]:
    """The README's table: {variable: (type, default)}."""
    text = (ROOT / "roles" / role / "README.md").read_text()
    return {name: (kind, default.strip("`")) for name, kind, default, _ in ROW.findall(text)}


def is_literal(value: Any) -> bool:
    return not isinstance(value, dict | list) and "{{" not in str(value)


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_lists_every_default_and_what_is_required(role: str) -> None:
    defaults, table = read(role, "defaults/main.yml"), readme(role)
    assert set(defaults) == {name for name, (_, default) in table.items() if default != "required"}
    stated = {name: table[name][1] for name, value in defaults.items() if is_literal(value)}
    assert stated == {name: str(value) for name, value in defaults.items() if is_literal(value)}


@pytest.mark.parametrize("role", ROLES)
def test_every_public_variable_carries_the_roles_name(role: str) -> None:
    assert not [name for name in readme(role) if not name.startswith(f"{role}_")]


@pytest.mark.parametrize("role", ROLES)
def test_the_argument_specs_say_what_the_readme_says(role: str) -> None:
    specs, table = read(role, "meta/argument_specs.yml")["argument_specs"], readme(role)
    assert {name: option["type"] for name, option in specs["main"]["options"].items()} == {
        name: kind for name, (kind, _) in table.items()
    }
    for entry, spec in specs.items():
        assert (ROOT / "roles" / role / "tasks" / f"{entry}.yml").exists()
        assert spec["short_description"]
        for name, option in spec["options"].items():
            assert option["description"]
            assert option.get("required", False) == (table[name][1] == "required"), name
            if "default" in option:
                assert option["default"] == read(role, "defaults/main.yml")[name]


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_says_what_the_role_does_in_the_order_in_which_it_does_it(role: str) -> None:
    text = (ROOT / "roles" / role / "README.md").read_text()
    bullets = " ".join(re.findall(r"^- ([a-z, ]+):", text, re.M)).replace(",", "").split()
    assert bullets == ["preflight", "install", "configure", "run"]
