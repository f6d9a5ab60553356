"""The roles on their own: each scenario of molecule/ converges, changes nothing the second time, and is verified."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT
from tests.nodes import Cluster

SCENARIOS = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))
IN_ANOTHER = ("deploy",)  # what its role does is done in the scenario of `instance` too


@pytest.mark.parametrize(
    "scenario", [pytest.param(one, marks=[pytest.mark.slow] if one in IN_ANOTHER else []) for one in SCENARIOS]
)
def test_the_role_does_what_its_scenario_says(cluster: Cluster, scenario: str) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"}
    done = subprocess.run(
        ["molecule", "test", "--scenario-name", scenario], cwd=ROOT, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "molecule" not in cluster.nodes(), "a scenario takes its node down again"
