"""Many large databases into one: `python -m tests.bench.merging [--instances 100] [--rows 100000] [--folder DIR]`.

Makes a run's folder with a database an instance, of the workload's own tables: of 100 rows 40 are messages of about
200 characters, 40 calls of the model, 18 measurements of a round, 2 self-reports. Then it merges, each time in a
process of its own: all of them, again with nothing new, again after every tenth instance got 1 % more rows, and once
more after one database lost its second half. Prints seconds of wall and processor, and the peak of resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from fleet.results.merge import merge, summary
from workload import database

ROOT = Path(__file__).resolve().parents[2]
RUN_ID = "bench_20260101T000000Z_0000"
SHARES = {"messages": 40, "generations": 40, "system_metrics": 18, "self_reports": 2}  # of 100 rows
# Each takes (experiment_id, first, last) and numbers its rows so. The text is hexadecimal, as random as words are not.
NUMBERS = "WITH RECURSIVE n (i) AS (VALUES (?2) UNION ALL SELECT i + 1 FROM n WHERE i < ?3) "
TIME = "strftime('%Y-%m-%dT%H:%M:%f+00:00', 1795000000 + i, 'unixepoch')"
FILL = {
    "messages": "INSERT INTO messages (experiment_id, cycle_number, timestamp, role, content, sender, recipient, round,"
    f" injected) SELECT ?1, 1 + i / 40, {TIME}, iif(i % 2, 'user', 'assistant'), hex(randomblob(75 + i % 50)),"
    " iif(i % 2, 'b', 'a'), iif(i % 2, 'a', NULL), i / 2, 0 FROM n",
    "generations": "INSERT INTO generations (experiment_id, cycle_number, timestamp, purpose, prompt_tokens, tokens,"
    f" seconds, tokens_per_second) SELECT ?1, 1 + i / 40, {TIME}, 'say:' || i, 900 + i % 100, 64, 3.25 + i % 7, 19.7"
    " FROM n",
    "system_metrics": "INSERT INTO system_metrics (experiment_id, cycle_number, timestamp, memory_usage_mb,"
    f" cpu_usage_percent, temperature_c, network_status, round) SELECT ?1, 1 + i / 40, {TIME}, 1200.5 + i % 100,"
    " 42.1, 55.0, 'connected', i FROM n",
    "self_reports": "INSERT INTO self_reports (experiment_id, cycle_number, timestamp, question, response,"
    f" confidence_score, semantic_category, occasion) SELECT ?1, i, {TIME}, 'Who are you?', hex(randomblob(100)), 0.8,"
    " 'identity', 'scheduled' FROM n",
}


def fill(path: Path, instance: str, first: int, rows: int) -> None:
    """Add this many rows, in the shares of SHARES, to an instance's database."""
    database.open(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous = OFF")
        key = f"{RUN_ID}.{instance}"
        db.execute(
            "INSERT OR IGNORE INTO experiments (experiment_id, name, mode, config_json, status, created_at)"
            " VALUES (?, 'bench', 'split_brain', '{}', 'running', '')",
            (key,),
        )
        for table, share in SHARES.items():
            start, count = first * share // 100, rows * share // 100
            insert, _, select = FILL[table].partition(" SELECT ")
            db.execute(f"{insert} {NUMBERS} SELECT {select}", (key, start + 1, start + count))
        db.commit()
        db.execute("PRAGMA journal_mode = DELETE")  # as the node's backup is


def measured(folder: Path, instances: int) -> dict[str, Any]:
    """Merge, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.merging", "--merge", str(folder), "--instances", str(instances)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def merge_once(folder: Path, nodes: Mapping[str, str]) -> dict[str, Any]:
    """Merge here, and say what it took."""
    started, cpu = time.monotonic(), time.process_time()
    report = merge(folder, nodes, RUN_ID)
    return {
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rows": sum(report["rows"].values()),
        "problems": report["problems"],
    }


def names(instances: int) -> dict[str, str]:
    return {f"m{number:03}": f"node{number % 4}" for number in range(instances)}


def main() -> None:
    """Make, merge, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.merging", description=__doc__)
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--rows", type=int, default=100_000, help="of each")
    parser.add_argument("--folder", type=Path, help="where to; default: a folder of the system's for what is temporary")
    parser.add_argument("--merge", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    nodes = names(given.instances)
    if given.merge:
        print(json.dumps(merge_once(given.merge, nodes)))
        return
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    print(f"{os.cpu_count()} cores, {versions}; {given.instances} databases of {given.rows:,} rows")
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="jarfleet-bench-") as made:
        folder = Path(made)
        (folder / "db").mkdir()
        for instance in nodes:
            fill(folder / "db" / f"{instance}.db", instance, 0, given.rows)
        size = sum(path.stat().st_size for path in (folder / "db").iterdir())
        print(f"{size / 2**20:,.0f} MiB of databases")
        report("all of them", measured(folder, given.instances))
        size = (folder / "experiments.db").stat().st_size
        print(f"{size / 2**20:,.0f} MiB merged, {sum(map(len, summary(folder).values()))} instances' tables")
        report("nothing new", measured(folder, given.instances))
        for instance in [*nodes][::10]:
            fill(folder / "db" / f"{instance}.db", instance, given.rows, given.rows // 100)
        report("every tenth with 1 % more", measured(folder, given.instances))
        path = folder / "db" / "m000.db"
        os.truncate(path, path.stat().st_size // 2)
        report("one cut in half", measured(folder, given.instances))
        shutil.rmtree(folder / "db")


def report(what: str, found: Mapping[str, Any]) -> None:
    told = "".join(f"; {instance}: {problem}" for instance, problem in found["problems"].items())
    print(
        f"{what:26} {found['seconds']:8.1f} s {found['cpu_seconds']:8.1f} s CPU {found['peak_mb']:6.0f} MiB"
        f" {found['rows']:12,} rows{told}",
        flush=True,
    )


if __name__ == "__main__":
    main()
