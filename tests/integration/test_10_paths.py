"""The two path traps: root group_vars load, and plugins import `placement`, from the command as a user types it."""

import json
import subprocess

from tests.integration.conftest import ROOT, Project


def test_the_root_group_vars_reach_a_playbook_imported_from_the_root(project: Project) -> None:
    """reserved_ram_gb of group_vars/jetson_orin.yml is in the plan that the root playbook makes."""
    played = project.play("run_experiment.yml", "-e", "experiment=split_brain", "--check")
    jetson = next(line for line in played.output.splitlines() if line.strip().startswith("jetson  HEALTHY"))
    assert "8/56" in jetson  # 64 GB less the 8 that group_vars reserve


def test_the_root_group_vars_reach_a_playbook_of_the_playbooks_folder(project: Project) -> None:
    played = project.play("playbooks/plan.yml", "-e", "experiment=split_brain")
    assert "8/56" in played.output


def test_an_inventory_overrides_the_projects_group_vars(project: Project) -> None:
    """inventory/virtual has no compiler on its nodes and says so, against group_vars/nodes.yml."""
    shown = subprocess.run(
        ["ansible-inventory", "--host", "rpi1"],
        cwd=ROOT,
        env=project.environment,
        text=True,
        capture_output=True,
        check=True,
    )
    assert json.loads(shown.stdout)["llama_cpp_builder"] == "controller"


def test_the_lookup_plugin_imports_placement(project: Project) -> None:
    message = "msg={{ lookup('placement', 'experiments/split_brain.yml').assignments }}"
    done = subprocess.run(
        ["ansible", "localhost", "-m", "ansible.builtin.debug", "-a", message],
        cwd=ROOT, env=project.environment, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert '"a": "jetson"' in done.stdout, done.stdout + done.stderr


def test_the_plugins_are_documented() -> None:
    for kind, name in [("module", name) for name in ("place", "experiment", "push", "watch", "collect", "forward")] + [
        ("lookup", "placement"),
        ("callback", "jarfleet"),
    ]:
        done = subprocess.run(["ansible-doc", "-t", kind, name], cwd=ROOT, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "EXAMPLES" in done.stdout or kind == "callback", f"{kind} {name} has no examples"
