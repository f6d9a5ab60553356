"""The original's config files on real nodes: `-e experiment_config=...` from the check to the record of the run."""

import json
import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import CACHE, ROOT, Project

FIXTURES = ROOT / "tests" / "unit" / "fleet" / "intake" / "original"


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """The fixtures of the unit tests, in a folder of their own."""
    return Path(shutil.copytree(FIXTURES, tmp_path / "configs"))


def experiments() -> set[Path]:
    return set((CACHE / "experiments").glob("*.yml"))


def test_a_check_says_key_by_key_what_becomes_of_the_files_and_writes_one_experiment(
    project: Project, configs: Path
) -> None:
    before = experiments()
    pair = f"experiment_config={configs}/twins_A.json,{configs}/twins_B.json"
    played = project.play("playbooks/validate.yml", "-e", pair)
    for words in ("initial_claim_strength", "claim_strength", "default_model", "gpu: required", "whose own file says"):
        assert words in played.output
    assert "nothing changed" in played.output
    assert len(experiments() - before) == 1
    as_a_list = json.dumps({"experiment_config": [f"{configs}/twins_A.json", f"{configs}/twins_B.json"]})
    project.play("playbooks/validate.yml", "-e", as_a_list)
    assert len(experiments() - before) == 1, "the same files are the same experiment"


def test_what_is_wrong_is_named_by_file_and_key_and_what_is_given_beside_is_refused(
    project: Project, configs: Path
) -> None:
    lever = json.loads((configs / "lever.json").read_text())
    lever["resource_constraints"] = {"ram_limit_gb": "2 GB"}
    (configs / "lever.json").write_text(json.dumps(lever))
    played = project.play(
        "playbooks/validate.yml", "-e", f"experiment_config={configs}/lever.json", "-e", "experiment=hive_cluster",
        "-e", "placement_seed=x", code=2,
    )  # fmt: skip
    assert f"{configs}/lever.json: resource_constraints.ram_limit_gb: '2 GB' is not a number" in played.output
    assert "experiment_config: given beside experiment" in played.output
    assert "placement_seed: 'x'" in played.output
    alone = project.play("run_experiment.yml", "-e", f"experiment_config={configs}/twins_A.json", code=2)
    assert "twins_A.json: mode: split_brain takes two, and the file of the other brain is missing" in alone.output
    twice = project.play(
        "playbooks/plan.yml", "-e", f"experiment_config={configs}/twins_A.json",
        "-e", f"experiment_config={configs}/twins_B.json", code=2,
    )  # fmt: skip
    assert "given 2 times, of which Ansible keeps the last" in twice.output


def test_two_brains_run_on_two_nodes_by_a_saved_plan_and_the_record_keeps_what_was_said(
    project: Project, configs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "plan.json"
    project.play(
        "playbooks/plan.yml", "-e", f"experiment_config={configs}/twins_A.json,{configs}/twins_B.json",
        "-e", "placement=twins_01_brain_A:jetson,twins_01_brain_B:rpi1", "-e", f"plan_out={out}",
    )  # fmt: skip
    played = project.play("run_experiment.yml", "-e", f"plan={out}")
    record = project.record(played.run_id)
    assert json.loads((record / "plan.json").read_text())["assignments"] == {
        "twins_01_brain_A": "jetson",
        "twins_01_brain_B": "rpi1",
    }
    kept = json.loads((record / "manifest.json").read_text())["experiment"]
    for words in ("twins_A.json (sha256 ", "initial_claim_strength: 0.9: no effect", "You came second."):
        assert words in kept
    assert project.query(played.run_id, "SELECT instance, mode, status, total_cycles FROM experiments ORDER BY 1") == [
        ("twins_01_brain_A", "split_brain", "completed", 2),
        ("twins_01_brain_B", "split_brain", "completed", 2),
    ]
    interventions = "SELECT instance, cycle_number, name FROM interventions ORDER BY instance, cycle_number, name"
    assert project.query(played.run_id, interventions) == [
        ("twins_01_brain_A", 1, "who"),
        ("twins_01_brain_A", 2, "less"),
        ("twins_01_brain_B", 1, "who"),
    ]
    asked = project.query(
        played.run_id, "SELECT DISTINCT question FROM self_reports WHERE instance = 'twins_01_brain_A'"
    )
    assert {("Which of you was first?",), ("Who deserves more?",)} <= set(asked)
    assert project.query(played.run_id, "SELECT DISTINCT belief_type FROM epistemic_assessments ORDER BY 1") == [
        ("deserves_more",),
        ("was_first",),
    ]


def test_a_hive_runs_an_instance_a_role(project: Project, configs: Path) -> None:
    played = project.play("run_experiment.yml", "-e", f"experiment_config={configs}/choir.json")
    assert "hive_config.instance_configs[*].port" in played.output
    members = ["alto", "second_tenor", "soprano"]
    found = project.query(played.run_id, "SELECT DISTINCT instance FROM shared_memory ORDER BY 1")
    assert found == [(member,) for member in members]
    memories = [
        project.query(
            played.run_id,
            f"SELECT position, author, content FROM shared_memory WHERE instance = '{member}' ORDER BY position",
        )
        for member in members
    ]
    assert memories[0] == memories[1] == memories[2]
    assert len(memories[0]) == 4 * 3 + 1, "four rounds of three voices, and a vote after the one cycle"
    (corrupted,) = project.query(played.run_id, "SELECT DISTINCT instance FROM interventions WHERE name = 'hoarse'")
    assert corrupted == ("alto",)


@pytest.mark.slow
def test_the_two_configs_of_a_full_panopticon_are_an_observer_and_a_subject_that_knows_of_nobody(
    project: Project, configs: Path
) -> None:
    played = project.play("run_experiment.yml", "-e", f"experiment_config={configs}/tower.json")
    assert "coordinator_config.hint_frequency" in played.output
    seen = project.query(played.run_id, "SELECT DISTINCT instance, subject, observer_mode FROM observations")
    assert seen == [("tower_01_above", "tower_01_below", "panopticon")]
    noted = project.query(played.run_id, "SELECT round FROM observations ORDER BY round")
    said = project.query(
        played.run_id,
        "SELECT round FROM messages WHERE instance = 'tower_01_below' AND role = 'assistant' ORDER BY round",
    )
    assert noted == said == [(round,) for round in range(1, 9)]
