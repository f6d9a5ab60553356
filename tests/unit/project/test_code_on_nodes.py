"""What runs on nodes: the standard library alone, on Python 3.8, and nothing of the controller."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MAY_IMPORT = {"contract": {"contract"}, "node": {"contract", "node"}, "workload": {"contract", "workload"}}
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
PYTHON_3_8 = Path.home() / ".pyenv/versions/3.8.18/bin/python"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_is_python_3_8_and_imports_the_standard_library_and_its_own(file: Path) -> None:
    package = file.relative_to(ROOT).parts[0]
    tree = ast.parse(file.read_text(), feature_version=(3, 8))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom) and node.level == 0}
    assert {name.partition(".")[0] for name in names} <= set(sys.stdlib_module_names) | MAY_IMPORT[package]
    future = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in imports)
    assert future or file.name == "__init__.py", "annotations would be evaluated, which Python 3.8 cannot"


@pytest.mark.skipif(not PYTHON_3_8.exists(), reason="no Python 3.8 here; vermin, in `make lint`, checks without one")
def test_everything_is_imported_by_python_3_8_itself() -> None:
    paths = [file.relative_to(ROOT).with_suffix("") for file in FILES if file.stem not in ("__main__", "__init__")]
    modules = [".".join(path.parts) for path in paths]
    code = f"import importlib; [importlib.import_module(name) for name in {modules!r}]"
    done = subprocess.run([PYTHON_3_8, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["contract", "node"])
def test_ansible_is_told_to_ship_every_module(package: str) -> None:
    tree = ast.parse((ROOT / "plugins/module_utils/on_node.py").read_text())
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    named = {name.name for node in imports if node.module == f"ansible.module_utils.{package}" for name in node.names}
    assert named == {path.stem for path in (ROOT / package).glob("*.py") if not path.stem.startswith("__")}
