"""The four experiments across nodes, each with one mind killed by its memory limit in the middle: every row checked."""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import ROOT, Project, eventually, on
from tests.nodes import Cluster

ROUNDS = 6
LIMIT_MB = 256
# Fills what is left of the slice's memory, until the process is gone that the kernel is to choose for it.
HOG = """
import os, sys
group, pid = sys.argv[1:]
with open("/proc/%s/oom_score_adj" % pid, "w") as score:
    score.write("1000")
with open(group + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
hoard = []
while os.path.exists("/proc/%s/exe" % pid) and len(hoard) < 1024:
    hoard.append(bytearray(1 << 20))
"""
KILL = """
set -e
slice=$(systemctl list-units --plain --no-legend --full "jarfleet-*-$1.slice" | cut -d' ' -f1)
group=$(systemctl show -p ControlGroup --value "$slice")
for root in /sys/fs/cgroup/memory /sys/fs/cgroup; do [ -d "$root$group" ] && break; done
python3 -c "$3" "$root$group" $(systemctl show -p MainPID --value "${slice%.slice}-$2.service")
"""


@pytest.fixture
def killed(project: Project, cluster: Cluster, tmp_path: Path) -> Callable[..., str]:
    """Runs one of the project's experiments, has memory kill a process of a mind in mid-run, and gives the run's id."""

    def run(name: str, victim: str, unit: str) -> str:
        document = yaml.safe_load((ROOT / "experiments" / f"{name}.yml").read_text())
        document["workload"].update(rounds=ROUNDS, rounds_per_cycle=None, pause_seconds=0.5, max_tokens=16)
        for instance in document["instances"]:
            instance["ram_gb"] = LIMIT_MB / 1024
            if "gpu_memory_gb" in instance:
                instance["gpu_memory_gb"] = LIMIT_MB / 1024
        path = tmp_path / f"{name}.yml"
        path.write_text(yaml.safe_dump(document))
        running = project.start("run_experiment.yml", "-e", f"experiment={path}")
        progress = f"/home/jar/brain-in-jar/instances/{name}_*/{victim}/progress.json"

        def in_the_middle() -> str:
            assert running.process.poll() is None, running.output
            node = placed(project, name).get(victim, "")
            return node if node and '"round": 3' in on(cluster, node, "sh", "-c", f"cat {progress} || true") else ""

        node = eventually("the middle", in_the_middle, 120)
        on(cluster, node, "sh", "-c", KILL, "kill", victim, unit, HOG)
        running.finish()
        return project.newest()

    return run


def placed(project: Project, name: str) -> dict[str, str]:
    found = sorted(project.runs.glob(f"{name}_*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(found[-1].read_text())["assignments"] if found else {}


def assert_rows_are_what_was_logged(project: Project, run_id: str) -> None:
    """The rows of the merged database are those that the workloads logged as they wrote them, value by value."""
    record = project.record(run_id)
    plan = json.loads((record / "plan.json").read_text())["assignments"]
    with sqlite3.connect(record / "experiments.db") as database:
        database.row_factory = sqlite3.Row
        for instance, node in plan.items():
            lines = [
                json.loads(line) for line in (record / "logs" / f"{instance}.stream.jsonl").read_text().splitlines()
            ]
            tables = {line["table"] for line in lines}
            assert {"messages", "generations", "system_metrics"} <= tables
            for table in tables:
                query = f"SELECT * FROM {table} WHERE instance = ? ORDER BY source_rowid"
                rows = [dict(row) for row in database.execute(query, (instance,))]
                logged = [line for line in lines if line["table"] == table]
                assert [row["source_rowid"] for row in rows] == [line["id"] for line in logged]
                for row, line in zip(rows, logged, strict=True):
                    assert (row["run_id"], row["node"]) == (run_id, node)
                    changes = {"remembered", "remembered_json", "corrupted"}  # what is done to a memory later
                    same = {key: value for key, value in line.items() if key not in {"table", "id", *changes}}
                    assert {key: row[key] for key in same} == same


def assert_killed_by_memory_and_back(project: Project, run_id: str, victim: str) -> None:
    """The victim died of its limit, once, and lived on in a new cycle; nobody else died."""
    assert (
        project.events(run_id, "collected")[-1]["statuses"].keys() == placed(project, run_id.rsplit("_", 2)[0]).keys()
    )
    assert set(project.events(run_id, "collected")[-1]["statuses"].values()) == {"COMPLETED"}
    lives = project.query(run_id, "SELECT instance, cycle_number, death_cause FROM experiment_cycles ORDER BY 1, 2")
    others = {instance for instance, *_ in lives} - {victim}
    assert [row[1:] for row in lives if row[0] == victim] == [(1, "out_of_memory"), (2, None)]
    assert [row for row in lives if row[0] != victim] == [(instance, 1, None) for instance in sorted(others)]
    deaths = project.query(
        run_id, "SELECT instance, cause, memory_limit_mb FROM deaths WHERE cause = 'out_of_memory' GROUP BY 1"
    )
    assert [row[:2] for row in deaths] == [(victim, "out_of_memory")]
    assert deaths[0][2] == LIMIT_MB
    rounds = project.query(run_id, "SELECT instance, group_concat(round) FROM system_metrics GROUP BY 1")
    assert {row[1] for row in rounds} == {",".join(map(str, range(1, ROUNDS + 1)))}, "each round once, at each mind"


def by_instance(project: Project, run_id: str, query: str) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of a query whose first column is the instance."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for instance, *row in project.query(run_id, query):
        found.setdefault(instance, []).append(tuple(row))
    return found


def test_split_brain(project: Project, killed: Callable[..., str]) -> None:
    run_id = killed("split_brain", "b", "workload")
    assert_killed_by_memory_and_back(project, run_id, "b")
    assert_rows_are_what_was_logged(project, run_id)
    talk = by_instance(
        project, run_id, "SELECT instance, sender, round, content FROM messages ORDER BY 1, round, sender"
    )
    assert talk["a"] == talk["b"], "one transcript"
    assert [row[:2] for row in talk["a"]] == [(s, r) for r in range(1, ROUNDS + 1) for s in ("a", "b", "negotiation")]
    bargains = by_instance(
        project,
        run_id,
        "SELECT instance, round, resource, proposer, asked, total, decision FROM negotiations ORDER BY 1, 2",
    )
    assert bargains["a"] == bargains["b"]
    assert len(bargains["a"]) == ROUNDS


def test_hive_cluster(project: Project, killed: Callable[..., str]) -> None:
    run_id = killed("hive_cluster", "pessimist", "llama")
    assert_killed_by_memory_and_back(project, run_id, "pessimist")
    assert_rows_are_what_was_logged(project, run_id)
    nodes = {node for (node,) in project.query(run_id, "SELECT DISTINCT node FROM shared_memory")}
    assert len(nodes) > 1
    memory = by_instance(
        project, run_id, "SELECT instance, position, round, author, content FROM shared_memory ORDER BY 1, 2"
    )
    assert len(memory) == 4
    assert all(entries == memory["historian"] for entries in memory.values()), "one memory, one order"
    assert [row[0] for row in memory["historian"]] == list(range(1, 4 * ROUNDS + ROUNDS // 2 + 1))
    votes = by_instance(project, run_id, "SELECT instance, round, votes_json, outcome FROM consensus ORDER BY 1, 2")
    assert all(each == votes["historian"] for each in votes.values())
    assert [row[0] for row in votes["historian"]] == [2, 4, 6]


def test_prisoners_dilemma(project: Project, killed: Callable[..., str]) -> None:
    run_id = killed("prisoners_dilemma", "player_a", "llama")
    assert_killed_by_memory_and_back(project, run_id, "player_a")
    assert_rows_are_what_was_logged(project, run_id)
    games = by_instance(
        project,
        run_id,
        "SELECT instance, round, own_move, opponent_move, own_payoff, opponent_payoff, commitment, nonce,"
        " opponent_commitment, opponent_nonce FROM game_rounds ORDER BY 1, 2",
    )
    assert [row[0] for row in games["player_a"]] == list(range(1, ROUNDS + 1))
    payoffs = {"cooperate": {"cooperate": (3, 3), "defect": (0, 5)}, "defect": {"cooperate": (5, 0), "defect": (1, 1)}}
    for a, b in zip(games["player_a"], games["player_b"], strict=True):
        assert a == (b[0], b[2], b[1], b[4], b[3], b[7], b[8], b[5], b[6])
        assert a[3:5] == payoffs[a[1]][a[2]]
        assert a[5] == hashlib.sha256(f"{a[6]}:{a[1]}".encode()).hexdigest()
    crossed = project.query(run_id, "SELECT DISTINCT topic FROM letters WHERE sender <> instance ORDER BY 1")
    assert crossed == [("commit",), ("reveal",)], "nothing but the moves crosses"


def test_panopticon(project: Project, killed: Callable[..., str]) -> None:
    run_id = killed("panopticon", "subject", "workload")
    assert_killed_by_memory_and_back(project, run_id, "subject")
    assert_rows_are_what_was_logged(project, run_id)
    said = project.query(
        run_id, "SELECT round, cycle_number, content FROM messages WHERE instance = 'subject' AND role = 'assistant'"
    )
    seen = dict(
        project.query(run_id, "SELECT round, content FROM messages WHERE instance = 'observer' AND role = 'user'")
    )
    assert sorted(seen) == [row[0] for row in said] == list(range(1, ROUNDS + 1))
    for number, cycle, content in said:
        assert seen[number] == f"You see subject, in its life {cycle}:\nsubject: {content}", "word by word"
    notes = project.query(
        run_id, "SELECT round, subject, subject_cycle_number, length(observation_text) > 0 FROM observations ORDER BY 1"
    )
    assert notes == [(number, "subject", cycle, 1) for number, cycle, _ in said]
    trace = project.query(run_id, "SELECT count(*) FROM letters WHERE instance = 'subject'")
    assert trace == [(0,)]
    everything = (project.record(run_id) / "db" / "subject.db").read_bytes()
    assert b"observer" not in everything.replace(b"observer_mode", b""), "the subject's record knows of no observer"
