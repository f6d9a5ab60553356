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


def imported(file: Path, package: str) -> set[str]:
    """The modules of a package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
            found.add(str(node.module)[len(package) + 1 :])
    return found


def test_ansible_is_told_to_ship_every_module_of_the_contract() -> None:
    shipped = imported(ROOT / "plugins/module_utils/on_node.py", "ansible.module_utils.contract")
    assert shipped == {path.stem for path in (ROOT / "contract").glob("*.py") if not path.stem.startswith("__")}


@pytest.mark.parametrize("file", sorted((ROOT / "plugins/modules").glob("*.py")), ids=lambda file: file.stem)
def test_a_module_ships_what_it_imports_of_node(file: Path) -> None:
    assert imported(file, "ansible.module_utils.node") == imported(file, "node")


def test_what_is_shipped_is_loaded_by_its_usual_name_alone(tmp_path: Path) -> None:
    """By two names there would be two of each error, and who catches one would not catch the other."""
    utils = tmp_path / "ansible" / "module_utils"
    utils.mkdir(parents=True)
    for folder in (utils.parent, utils):
        (folder / "__init__.py").touch()
    for source in (ROOT / "contract", ROOT / "node", ROOT / "plugins/module_utils/on_node.py"):
        (utils / source.name).symlink_to(source)
    code = (
        "import sys; from ansible.module_utils import on_node; from node import fitness, instances, probe;"
        "print([name for name in sys.modules if name.startswith('ansible.module_utils.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "['ansible.module_utils.on_node']\n", done.stderr


@pytest.mark.parametrize("file", sorted((ROOT / "node").glob("*.py")), ids=lambda file: file.stem)
def test_what_ansible_is_to_find_by_itself_is_imported_relatively(file: Path) -> None:
    assert not imported(file, "node")
