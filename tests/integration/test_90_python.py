"""What docs/python.md tells a user to type works as it is written there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, Project
from tests.nodes import Cluster

ADHOC = ("ci1", "ci2")


def block(name: str) -> str:
    """The fenced block of docs/python.md that the comment `<!-- test: name -->` marks."""
    text = (ROOT / "docs" / "python.md").read_text()
    found = re.findall(rf"<!-- test: {re.escape(name)} -->\n```\w+\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, f"docs/python.md has {len(found)} blocks marked {name!r}"
    return str(found[0])


def typed(project: Project, *command: str, scratch: Path) -> str:
    """What a command prints, run in the root of the clone; `scratch` is where it finds room for temporary files."""
    done = subprocess.run(
        command, cwd=ROOT, env={**project.environment, "TMPDIR": str(scratch)}, text=True, timeout=600,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_python_of_the_documentation_runs_an_experiment_and_asks_for_its_status(
    project: Project, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(block("runner"))
    output = typed(project, sys.executable, str(program), scratch=tmp_path)
    statuses, path = re.search(r"^0 (\{.*?\}) (\S+)$", output, re.MULTILINE).groups()
    assert statuses == "{'a': 'COMPLETED', 'b': 'COMPLETED'}"
    assert Path(path).parent == project.runs, "the record is where JARFLEET_RUNS says"
    assert project.query(Path(path).name, "SELECT count(DISTINCT instance) FROM messages") == [(2,)]
    assert "jetson" in output, "the plan was shown while it ran"
    assert f"('{Path(path).name}', 'a'): 'COMPLETED'" in output
    assert not [left for left in tmp_path.iterdir() if left.is_dir()], "nothing of ansible-runner's is left"


def test_the_ci_commands_of_the_documentation_run_an_experiment_on_nodes_of_their_own(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    before = set(cluster.nodes())
    taken = before & set(ADHOC)
    if taken:
        pytest.fail(f"nodes {', '.join(sorted(taken))} exist already; `python -m tests.nodes down {' '.join(taken)}`")
    try:
        output = typed(project, "bash", "-euo", "pipefail", "-c", block("ci"), scratch=tmp_path)
        run_id = re.search(r"results of (\w+):", output)[1]
        plan = json.loads((project.record(run_id) / "plan.json").read_text())
        assert sorted(plan["assignments"].values()) == ["ci1", "ci2"]
        assert project.query(run_id, "SELECT DISTINCT instance FROM messages ORDER BY 1") == [("a",), ("b",)]
        typed(project, "bash", "-euo", "pipefail", "-c", block("ci-down"), scratch=tmp_path)
        assert set(cluster.nodes()) == before
    finally:
        if left := set(cluster.nodes()) & set(ADHOC):
            cluster.down(*left)
