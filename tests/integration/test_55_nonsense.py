"""What somebody's code writes and raises is one named fault of one instance; the others go on."""

from __future__ import annotations

from pathlib import Path

from tests.integration.conftest import Project, eventually, own_program
from tests.nodes import Cluster

NONSENSE = """
import os, time
from pathlib import Path
from workload import Instance

folder = Path(os.environ["JARFLEET_INSTANCE"]).parent
if Instance.load().id == "mad":
    (folder / "progress.json").write_text("[1, 2]")
    (folder / "logs" / "stream.jsonl").write_text("[]\\nnonsense\\n")
time.sleep(900)
"""


def test_a_failed_program_closes_with_its_own_last_words(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    experiment = tmp_path / "broken.yml"
    experiment.write_text("name: broken\nrestart: {limit: 5}\ninstances: [{id: mule, ram_gb: 1}]\n")
    played = project.run(experiment, *own_program(tmp_path, "import nothing_of_that_name\n"), code=2)
    closing = played.output[played.output.index("Report what has failed") :]
    assert "mule: " in closing
    assert "ModuleNotFoundError: No module named" in closing
    assert "nothing_of_that_name" in closing


def test_nonsense_in_its_files_is_a_fault_of_one_instance(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    experiment = tmp_path / "asylum.yml"
    experiment.write_text("name: asylum\ninstances: [{id: mad, ram_gb: 1}, {id: sane, ram_gb: 1}]\n")
    pins = ("-e", "placement=mad:jetson,sane:jetson")
    project.run(experiment, *own_program(tmp_path, NONSENSE), *pins, "-e", "detach=true")
    run_id = project.newest()

    def status() -> str:
        output = project.play("playbooks/status.yml", "-e", f"run={run_id}").output
        return output if "progress.json" in output else ""

    shown = eventually("the fault is reported", status)
    assert "Traceback" not in shown
    for id in ("mad", "sane"):
        assert any(id in line.split() and "RUNNING" in line for line in shown.splitlines())

    project.play("playbooks/stop.yml", "-e", f"run={run_id}")
    fetched = project.play("playbooks/fetch.yml", "-e", f"run={run_id}")
    assert "Traceback" not in fetched.output
    closing = {
        line.split()[0]: line for line in fetched.output.splitlines() if " STOPPED " in line and "jetson" in line
    }
    assert {"mad", "sane"} <= set(closing)
