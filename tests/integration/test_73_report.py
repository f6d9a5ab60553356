"""What a user does with the data of a run: its report, its tables as files, and two runs side by side."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from markupsafe import escape

from tests.integration.conftest import Played, Project


@pytest.fixture(scope="module")
def played(project: Project) -> Played:
    return project.run("split_brain")


def test_a_run_ends_with_its_report(project: Project, played: Played) -> None:
    path = project.record(played.run_id) / "report.html"
    assert f"report    {path}" in played.output
    page = path.read_text()
    (said,) = project.query(played.run_id, "SELECT content FROM messages WHERE sender = 'b' AND round = 6 LIMIT 1")
    for text in ("Lives and deaths", "a on jetson", "b on rpi1", "proven optimal", "Round 6", "2 COMPLETED"):
        assert text in page
    assert str(escape(said[0])) in page


def test_collecting_again_and_reporting_again_change_nothing(project: Project, played: Played) -> None:
    path = project.record(played.run_id) / "report.html"
    page = path.read_bytes()
    assert "nothing changed" in project.play("playbooks/fetch.yml", "-e", f"run={played.run_id}").output
    assert "nothing changed" in project.play("playbooks/report.yml", "-e", f"run={played.run_id}").output
    assert path.read_bytes() == page
    path.unlink()
    assert "changed: localhost" in project.play("playbooks/report.yml", "--check").output
    assert not path.exists()
    project.play("playbooks/report.yml")
    assert path.read_bytes() == page


def test_a_report_that_cannot_be_written_stops_no_collection(project: Project, played: Played) -> None:
    path = project.record(played.run_id) / "report.html"
    path.unlink()
    path.mkdir()
    done = project.play("playbooks/fetch.yml", "-e", f"run={played.run_id}")
    path.rmdir()
    assert "report.html was not written" in " ".join(done.output.split())
    assert f"results of {played.run_id}" in done.output


def test_the_tables_are_exported_once(project: Project, played: Played) -> None:
    command = ("playbooks/export.yml", "-e", f"run={played.run_id}")
    assert "changed: localhost" in project.play(*command).output
    assert "nothing changed" in project.play(*command).output
    assert "changed: localhost" in project.play(*command, "-e", "format=csv").output
    folder = project.record(played.run_id) / "export"
    ((count,),) = project.query(played.run_id, "SELECT count(*) FROM messages")
    assert pq.read_metadata(folder / "messages.parquet").num_rows == count
    assert (folder / "messages.csv").read_text().startswith('"run_id","instance","node",')


@pytest.mark.slow
def test_two_runs_of_the_same_seeds_are_found_to_say_the_same(project: Project, played: Played, tmp_path: Path) -> None:
    other = project.run("split_brain")
    out = tmp_path / "comparison.json"
    done = project.play("playbooks/compare.yml", "-e", f"compare_out={out}")
    assert f"{played.run_id} and {other.run_id}: the same transcript" in done.output
    found = json.loads(out.read_text())
    assert list(found["runs"]) == [played.run_id, other.run_id]
    assert found["transcripts"][0]["identical"] is True
    assert not {"code", "models", "nodes", "transcript"} & set(found["differences"])
    again = project.play(
        "playbooks/compare.yml", "-e", f"runs={played.run_id},{other.run_id}", "-e", f"compare_out={out}"
    )
    assert "nothing changed" in again.output
