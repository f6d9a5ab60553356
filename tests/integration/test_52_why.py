"""Why here, why not there, and why not at all: with the nodes as they are, from the commands of the documentation."""

from pathlib import Path

from tests.integration.conftest import Project
from tests.integration.test_50_bad_input import faulty


def test_a_plan_reports_what_if_an_instance_were_elsewhere(project: Project) -> None:
    played = project.play("playbooks/plan.yml", "-e", "experiment=hive_cluster", "-e", "why=pessimist:rpi2,critic:host")
    assert "what if pessimist were not on rpi1 but on" in played.output
    assert "rpi2: the plan loses 10 points; would move there with 1.6 GB more RAM" in played.output
    assert "host: the plan loses 5 points; would move there with preferred_node: host" in played.output


def test_a_check_of_a_run_reports_it_too_and_leaves_no_record(project: Project) -> None:
    runs = sorted(project.runs.iterdir())
    played = project.run("split_brain", "-e", "why=b:rpi2", "--check", "--diff")
    assert "rpi2: equally good, decided by the tie rules" in played.output
    assert sorted(project.runs.iterdir()) == runs


def test_a_question_about_nobody_is_refused_before_a_node_is_asked(project: Project) -> None:
    played = project.play("playbooks/plan.yml", "-e", "experiment=split_brain", "-e", "why=b:rpi9", code=2)
    assert "why: b:rpi9: no node is named 'rpi9'; did you mean" in played.output
    assert "Read the nodes" not in played.output


def test_a_refused_run_reports_the_conflict_and_what_would_make_it_fit(project: Project, tmp_path: Path) -> None:
    runs = sorted(project.runs.iterdir())
    played = project.run(faulty(tmp_path, "first['ram_gb'] = 60"), "--check", "--diff", code=2)
    assert "smallest conflict: a cannot be placed" in played.output
    assert "jetson: 56.0 GB RAM free" in played.output
    assert "jetson with 4.0 GB more RAM (68.0)" in played.output
    assert "a with ram_gb: 56.0 instead of 60.0" in played.output
    assert sorted(project.runs.iterdir()) == runs
