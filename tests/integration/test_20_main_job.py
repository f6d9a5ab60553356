"""One command from an experiment file to a finished, recorded run; and the same again, which re-does nothing."""

import json
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import NODES, Played, Project, on, own_program, snapshot, write_experiment
from tests.nodes import Cluster


@pytest.fixture(scope="module")
def split_brain(project: Project) -> Played:
    return project.run("split_brain")


def test_the_minds_run_where_the_seed_says(project: Project, split_brain: Played) -> None:
    plan = json.loads((project.record(split_brain.run_id) / "plan.json").read_text())
    assert plan["assignments"] == {"a": "jetson", "b": "rpi1"}
    assert plan["instances"]["a"]["score"] == 65


def test_the_merged_database_holds_both_minds_messages_each_with_its_node(
    project: Project, split_brain: Played
) -> None:
    rows = project.query(
        split_brain.run_id,
        "SELECT instance, node, sender, round, content FROM messages"
        " WHERE sender IN ('a', 'b') ORDER BY instance, sender, round",
    )
    assert {(instance, node) for instance, node, *_ in rows} == {("a", "jetson"), ("b", "rpi1")}
    heard = {instance: [row[2:] for row in rows if row[0] == instance] for instance in "ab"}
    assert heard["a"] == heard["b"], "what one mind said is what the other heard"
    assert [(sender, round) for sender, round, _ in heard["a"]] == [(s, n) for s in "ab" for n in range(1, 7)]
    assert all(content.strip() for *_, content in heard["a"])


def test_self_reports_are_there_for_the_scheduled_cycles(project: Project, split_brain: Played) -> None:
    rows = project.query(split_brain.run_id, "SELECT DISTINCT instance, cycle_number FROM self_reports ORDER BY 1, 2")
    assert rows == [(instance, cycle) for instance in "ab" for cycle in (1, 2, 3)]


def test_the_record_is_whole(project: Project, split_brain: Played) -> None:
    record = project.record(split_brain.run_id)
    assert {"manifest.json", "plan.json", "events.jsonl", "experiments.db"} <= {path.name for path in record.iterdir()}
    assert sorted(path.name for path in (record / "db").iterdir()) == ["a.db", "b.db"]
    assert "llama-server" in (record / "logs" / "a.log").read_text()
    manifest = json.loads((record / "manifest.json").read_text())
    assert set(manifest["llama_cpp"]) == {"jetson", "rpi1"}
    assert len(set(manifest["llama_cpp"].values())) == 1
    assert manifest["models"]["a"]["sha256"] == manifest["models"]["b"]["sha256"]
    assert manifest["code"]["hash"]
    assert manifest["inventory_sha256"]
    assert manifest["plan_sha256"]
    assert [event["assignments"] for event in project.events(split_brain.run_id, "placed")] == [
        {"a": "jetson", "b": "rpi1"}
    ]
    assert project.events(split_brain.run_id, "collected")[0]["statuses"] == {"a": "COMPLETED", "b": "COMPLETED"}


def test_nothing_of_a_run_is_left_running(cluster: Cluster, split_brain: Played) -> None:
    for node in ("jetson", "rpi1"):
        assert not on(cluster, node, "systemctl", "list-units", "--all", "--plain", "--no-legend", "jarfleet-*").strip()
        assert not on(cluster, node, "find", "/etc/systemd/system", "-name", "jarfleet-*").strip()


def test_a_second_run_builds_nothing_and_sends_nothing(project: Project, cluster: Cluster, split_brain: Played) -> None:
    watched = ["/opt/llama.cpp", "/home/jar/brain-in-jar/releases", "/home/jar/brain-in-jar/models"]
    before = {node: on(cluster, node, "find", *watched, "-printf", "%p %i %C@\n") for node in ("jetson", "rpi1")}
    again = project.run("split_brain")
    assert "Send code and models" not in again.output
    assert "llama.cpp" not in again.output
    assert before == {
        node: on(cluster, node, "find", *watched, "-printf", "%p %i %C@\n") for node in ("jetson", "rpi1")
    }
    assert again.tasks <= 17


def test_fetching_twice_changes_nothing(project: Project, split_brain: Played) -> None:
    record = project.record(split_brain.run_id)
    before = {path: path.read_bytes() for path in sorted(record.rglob("*")) if path.is_file()}
    again = project.play("playbooks/fetch.yml", "-e", f"run={split_brain.run_id}")
    assert "nothing changed" in again.output
    assert before == {path: path.read_bytes() for path in sorted(record.rglob("*")) if path.is_file()}


def test_check_mode_shows_the_plan_and_changes_nothing(project: Project, cluster: Cluster) -> None:
    before = {node: snapshot(cluster, node) for node in NODES}
    runs = sorted(project.runs.iterdir())
    played = project.run("hive_cluster", "--check", "--diff")
    assert "+jetson: historian of hive_cluster (new)" in played.output
    assert "historian" in played.output
    assert before == {node: snapshot(cluster, node) for node in NODES}
    assert sorted(project.runs.iterdir()) == runs


def test_the_users_own_code_runs_instead_of_the_workload(project: Project, tmp_path: Path) -> None:
    argument = "a b; $(touch /tmp/pwned) %n"
    mine = own_program(
        tmp_path,
        "import sys\n"
        "from workload import Instance, llama\n"
        "mind = Instance.load()\n"
        "asked = [{'role': 'user', 'content': 'hello'}]\n"
        "reply = llama.chat(mind.llama_url, asked, max_tokens=8, temperature=0, seed=1)\n"
        "print('ARGUMENT', sys.argv[1:])\n"
        "print('ANSWER', reply.tokens)\n",
        argument,
    )
    (tmp_path / "code" / ".env").write_text("TOKEN=secret")
    experiment = tmp_path / "mine.yml"
    experiment.write_text(yaml.safe_dump({"name": "mine", "instances": [{"id": "solo", "ram_gb": 2}]}))
    played = project.run(experiment, *mine)
    log = (project.record(played.run_id) / "logs" / "solo.log").read_text()
    assert f"ARGUMENT {[argument]!r}" in log
    assert "ANSWER 8" in log


def test_secrets_of_the_users_code_never_reach_a_node(cluster: Cluster) -> None:
    assert not on(cluster, "jetson", "find", "/home/jar", "-name", ".env").strip()
    for node in NODES:
        assert not on(cluster, node, "find", "/home/jar", "-name", ".env").strip()
        assert not on(cluster, node, "find", "/tmp", "-name", "pwned").strip()  # noqa: S108 - the node's


@pytest.mark.slow
def test_seven_instances_run_at_once_and_all_complete(project: Project, tmp_path: Path) -> None:
    """The specification's figure: 7 on four nodes with 8 slots. Each one's times say that they ran at once."""
    experiment = write_experiment(
        tmp_path,
        name="seven",
        workload={"mode": "conversation", "rounds": 8, "pause_seconds": 2},
        instances=[{"id": f"mind{number}", "ram_gb": 5} for number in range(1, 8)],
    )
    played = project.run(experiment)
    statuses = project.events(played.run_id, "collected")[-1]["statuses"]
    assert statuses == {f"mind{number}": "COMPLETED" for number in range(1, 8)}
    spans = project.query(played.run_id, "SELECT started_at, ended_at, node FROM experiments")
    assert max(start for start, *_ in spans) < min(end for _, end, _ in spans), "all seven overlap"
    assert {node for *_, node in spans} == set(NODES)
