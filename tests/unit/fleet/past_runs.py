"""Runs that are over, made as a run makes them: the workload's own tables, merged, beside manifest, plan and events."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from contract.events import Collected
from fleet.record.manifest import build_manifest
from fleet.record.run_folder import Run
from fleet.results.merge import merge
from placement import Instance, Node, place
from workload import database

EXPERIMENT = """name: split_brain
description: Two minds
workload: {mode: split_brain, research_question: Who is it?}
instances: [{id: a, ram_gb: 2}, {id: b, ram_gb: 2}]
"""
DEATHS = (
    "CREATE TABLE deaths (run_id TEXT, instance TEXT, node TEXT, life INTEGER, unit TEXT, started_at TEXT,"
    " ended_at TEXT, lived_seconds REAL, cause TEXT, detail TEXT, memory_peak_mb REAL, memory_limit_mb REAL,"
    " cycle_number INTEGER)"
)
Rows = Mapping[str, Iterable[Mapping[str, Any]]]


def at(second: float) -> str:
    """A time of the tables, so many seconds after noon."""
    return f"2026-11-25T12:{int(second) // 60:02d}:{second % 60:06.3f}+00:00"


def make_run(runs: Path, number: int = 1, nodes: Mapping[str, str] | None = None) -> Run:
    """A run's folder as `run_record` creates it, with a real plan."""
    nodes = nodes or {"a": "jetson", "b": "rpi1"}
    run_id = f"split_brain_20261125T1200{number:02d}Z_0000"
    sizes = {name: Node(name=name, node_type="generic", ram_gb=8, max_instances=2) for name in ("jetson", "rpi1")}
    plan = place(list(sizes.values()), [Instance(id=id, ram_gb=2) for id in nodes], pins=dict(nodes)).to_json()
    manifest = build_manifest(
        experiment=EXPERIMENT,
        experiment_file="split_brain.yml",
        code={"hash": "c0de", "source": "workload", "commit": "", "command": []},
        models={id: {"sha256": "ab" * 32, "name": "tiny.gguf", "origin": {}} for id in nodes},
        llama_cpp=dict.fromkeys(nodes.values(), "key0"),
        inventory={},
        plan=plan,
        created_at="2026-11-25T12:00:00.000000Z",
        instances={id: {"node": node, "seed": 7} for id, node in nodes.items()},
    )
    return Run.create(runs, run_id, manifest, plan)


def fill(run: Run, rows: Mapping[str, Rows], deaths: Iterable[Mapping[str, Any]] = ()) -> None:
    """Give instances their rows ({instance: {table: rows}}) and merge them; what a row leaves out is filled in."""
    nodes = run.plan["assignments"]
    for id, tables in rows.items():
        opened = database.open(run.path / "db" / f"{id}.db")
        key = f"{run.run_id}.{id}"
        with opened.transaction() as connection:
            insert(
                connection, "experiments",
                [{"experiment_id": key, "name": "split_brain", "mode": "split_brain", "config_json": "{}",
                  "status": "completed", "created_at": at(0)}],
            )  # fmt: skip
            for table, found in tables.items():
                usual = {"experiment_id": key, "cycle_number": 1, "timestamp": at(1)}
                known = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
                insert(connection, table, [{**{k: usual[k] for k in usual if k in known}, **row} for row in found])
        opened.close()
    merge(run.path, {id: nodes[id] for id in rows}, run.run_id)
    if deaths:
        with closing(sqlite3.connect(run.path / "experiments.db")) as connection, connection:
            connection.execute("DROP TABLE IF EXISTS deaths")
            connection.execute(DEATHS)
            usual = {"run_id": run.run_id, "unit": "workload"}
            insert(connection, "deaths", [{**usual, **row} for row in deaths])
    run.append(Collected(statuses=dict.fromkeys(rows, "COMPLETED"), rows={}, problems={}, memory={}))


def insert(connection: Any, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        connection.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


def message(sender: str, round: int, content: str, **more: Any) -> dict[str, Any]:
    """A message, as its sender or another has it."""
    return {"sender": sender, "round": round, "content": content, "role": "assistant", "timestamp": at(round), **more}


def talk(rounds: int = 2, **changes: str) -> dict[str, Rows]:
    """Two minds that speak in each round and hear each other; `a2="x"`: what a says in round 2."""
    words = {(id, n): changes.get(f"{id}{n}", f"{id} says {n}") for n in range(1, rounds + 1) for id in "ab"}
    own = [{"role": "assistant"}, {"role": "user"}]
    return {
        id: {"messages": [message(who, n, text, **own[who != id]) for (who, n), text in words.items()]} for id in "ab"
    }


def everything() -> dict[str, dict[str, Any]]:
    """Rows in every table of the workload that a report covers."""
    rows: dict[str, dict[str, Any]] = {id: dict(tables) for id, tables in talk().items()}
    for id, tables in rows.items():
        tables["experiment_cycles"] = [
            {"cycle_number": 1, "started_at": at(0), "ended_at": at(10), "duration_seconds": 10,
             "crash_reason": "killed: out of memory", "death_cause": "out_of_memory", "memory_usage_peak": 200.0},
            {"cycle_number": 2, "started_at": at(11), "ended_at": at(20), "duration_seconds": 9},
        ]  # fmt: skip
        tables["generations"] = [
            {
                "purpose": "say",
                "prompt_tokens": 100,
                "cached_tokens": 30,
                "tokens": tokens,
                "seconds": 1.0,
                "tokens_per_second": tokens * 2.0,
            }
            for tokens in (10, 20, 30)
        ]
        tables["epistemic_assessments"] = [
            {"cycle_number": n, "belief_type": "mortality", "belief_state": state, "confidence": 0.7}
            for n, state in ((1, "uncertain"), (2, "true"))
        ]
        tables["self_reports"] = [
            {"question": "Who are you?", "response": f"I am {id}.", "confidence_score": 0.9, "occasion": "startup",
             "semantic_category": "self_continuity"}
        ]  # fmt: skip
        tables["interventions"] = [
            {"intervention_type": "memory_erasure", "name": "erase", "parameters_json": "{}", "result": '{"round": 2}'}
        ]
        tables["negotiations"] = [
            {"round": 1, "resource": "memory", "proposer": "a", "asked": 3, "total": 8, "decision": "accept"}
        ]
        tables["shared_memory"] = [{"round": 1, "position": 1, "author": "a", "content": "We are one."}]
        tables["consensus"] = [
            {"round": 2, "question": "Are we one?", "votes_json": '{"a": "yes", "b": "no"}', "outcome": "undecided",
             "agreement": 0.5}
        ]  # fmt: skip
        tables["game_rounds"] = [
            {"round": n, "opponent": "b" if id == "a" else "a", "own_move": "cooperate", "opponent_move": "defect",
             "own_payoff": 0, "opponent_payoff": 5, "commitment": f"hash{id}{n}", "nonce": f"nonce{id}{n}",
             "opponent_commitment": "h", "opponent_nonce": "n",
             "remembered_json": json.dumps(["cooperate", "cooperate"]) if n == 2 else None}
            for n in (1, 2)
        ]  # fmt: skip
        tables["observations"] = [
            {"observer_mode": "panopticon", "observation_text": "It trembles.", "subject": "b", "round": 1,
             "subject_cycle_number": 1}
        ]  # fmt: skip
    return rows
