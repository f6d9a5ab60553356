"""The merged database as files for other tools: every row, every type; and served read-only."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from past_runs import everything, fill, make_run

from fleet.base.errors import ExportError, MergeError
from fleet.record.run_folder import Run
from fleet.results.export import ROWS, export
from fleet.results.merge import merge

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "runs")


def own(run: Run, *statements: str) -> None:
    """Give the run the tables of a program of the user's own."""
    with closing(sqlite3.connect(run.path / "db" / "a.db")) as db, db:
        for statement in statements:
            db.execute(statement)
    assert merge(run.path, {"a": "jetson"}, run.run_id)["problems"] == {}


def rows(run: Run, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(run.path / "experiments.db")) as db:
        return db.execute(f'SELECT * FROM "{table}" ORDER BY instance, rowid').fetchall()


def parquet(run: Run, table: str) -> pa.Table:
    return pq.read_table(run.path / "export" / f"{table}.parquet")


def test_parquet_has_every_table_and_row_with_their_types(run: Run):
    fill(run, everything())
    done = export(run)
    assert done["rows"]["messages.parquet"] == 8
    assert sorted(done["changed"]) == sorted(path.name for path in (run.path / "export").iterdir())
    for name, count in done["rows"].items():
        table = parquet(run, name.removesuffix(".parquet"))
        assert [tuple(row.values()) for row in table.to_pylist()] == rows(run, name.removesuffix(".parquet"))
        assert table.num_rows == count
    types = {field.name: str(field.type) for field in parquet(run, "generations").schema}
    assert (types["tokens"], types["seconds"], types["purpose"]) == ("int64", "double", "string")
    empty = {field.name: str(field.type) for field in parquet(run, "system_metrics").schema}
    assert (empty["memory_usage_mb"], empty["round"]) == ("double", "int64")


def test_values_of_mixed_kinds_lose_nothing(run: Run):
    own(
        run,
        "CREATE TABLE t (bytes BLOB, large INTEGER, number, wide, mixed, missing)",
        f"INSERT INTO t VALUES (x'00ff', {2**63 - 1}, 1, {2**60 + 1}, 'text', NULL)",
        f"INSERT INTO t VALUES (NULL, {-(2**63)}, 1.5, 0.5, x'00ff', NULL)",
    )
    export(run)
    found = parquet(run, "t").to_pydict()
    assert found["bytes"] == [b"\x00\xff", None]
    assert found["large"] == [2**63 - 1, -(2**63)]
    assert found["number"] == [1.0, 1.5]
    assert found["wide"] == [str(2**60 + 1), "0.5"]
    assert found["mixed"] == ["text", "00ff"]
    assert found["missing"] == [None, None]


def test_csv_distinguishes_a_missing_value_from_an_empty_text(run: Run):
    own(
        run,
        "CREATE TABLE t (a TEXT, b)",
        """INSERT INTO t VALUES ('', 1), (NULL, NULL), ('a "b",' || char(10) || 'c', 2)""",
    )
    assert export(run, "csv")["rows"]["t.csv"] == 3
    text = (run.path / "export" / "t.csv").read_text()
    lines = text.split("\n", 3)
    assert lines[0] == '"run_id","instance","node","a","b","source_rowid"'
    assert lines[1].endswith('"jetson","",1,1')
    assert lines[2].endswith('"jetson",,,2')
    frame = pd.read_csv(run.path / "export" / "t.csv", keep_default_na=False)
    assert frame["a"].tolist()[2] == 'a "b",\nc'


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_exporting_again_changes_nothing_and_more_rows_change_their_table_alone(run: Run, format: Any):
    own(run, "CREATE TABLE t (x)", "CREATE TABLE u (x)", "INSERT INTO t VALUES (1)")
    assert {f"t.{format}", f"u.{format}"} <= set(export(run, format, check=True)["changed"])
    assert not (run.path / "export").exists()
    export(run, format)
    before = {path.name: path.stat().st_mtime_ns for path in (run.path / "export").iterdir()}
    assert export(run, format)["changed"] == []
    assert {path.name: path.stat().st_mtime_ns for path in (run.path / "export").iterdir()} == before
    own(run, "INSERT INTO u VALUES (2)")
    changed = export(run, format)["changed"]
    assert f"u.{format}" in changed
    assert f"t.{format}" not in changed
    assert [path for path in run.path.iterdir() if path.name.startswith(".")] == []


def test_a_table_by_any_name_stays_within_the_folder(run: Run):
    own(run, 'CREATE TABLE "../../x" (v)', 'CREATE TABLE ".." (v)', 'CREATE TABLE "a/b ""c" (v)')
    export(run)
    assert {"..%2F..%2Fx.parquet", "...parquet", "a%2Fb %22c.parquet"} <= {
        path.name for path in (run.path / "export").iterdir()
    }
    assert not list(run.path.parent.parent.glob("*.parquet"))


def test_a_run_without_a_database_says_what_to_do(run: Run):
    with pytest.raises(MergeError, match=r"fetch\.yml -e run="):
        export(run)


def test_without_pyarrow_it_is_reported_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExportError, match=r"jarfleet\[analysis\]"):
        export(run)


def test_a_large_table_is_exported_in_bounded_memory(run: Run):
    """300,000 messages of 1 kB, 300 MB in all, by a process that never grows by as much."""
    count = 300_000
    own(
        run,
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, content TEXT)",
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
        " INSERT INTO messages SELECT i, hex(randomblob(500)) FROM n",
    )
    assert count > 10 * ROWS
    source = (
        "import resource, sys; from pathlib import Path; import pyarrow.parquet, pyarrow.csv\n"
        "from fleet.results.export import export; from fleet.record.run_folder import Run\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = peak(); export(Run(Path(sys.argv[1]))); print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", source, str(run.path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200
    assert pq.read_metadata(run.path / "export" / "messages.parquet").num_rows == count


# Datasette


@pytest.fixture
def served(run: Run) -> Iterator[str]:
    """The address at which the run's database is served."""
    fill(run, everything())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "fleet.results.browse", "latest", "--port", str(port)]
    environment = {**os.environ, "JARFLEET_RUNS": str(run.path.parent)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < deadline, "Datasette does not listen"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def ask(address: str, sql: str) -> Any:
    query = urllib.parse.urlencode({"sql": sql, "_shape": "array"})
    return fetch(f"{address}/experiments.json?{query}")


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - of our own server
        return json.load(answer)


def test_datasette_serves_the_rows_and_takes_no_change(run: Run, served: str):
    before = (run.path / "experiments.db").read_bytes()
    query = "SELECT instance, count(*) AS said FROM messages GROUP BY instance"
    assert ask(served, query) == [{"instance": "a", "said": 4}, {"instance": "b", "said": 4}]
    (database,) = fetch(f"{served}/-/databases.json")
    assert database["is_mutable"] is False
    with pytest.raises(urllib.error.HTTPError):
        ask(served, "DELETE FROM messages")
    assert (run.path / "experiments.db").read_bytes() == before
    assert not list(run.path.glob("experiments.db-*"))


@pytest.mark.parametrize("run_id", ["latest", "split_brain_20261125T120001Z_ffff"])
def test_there_is_nothing_to_serve_without_a_run(run_id: str, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "fleet.results.browse", run_id],
        cwd=ROOT, env={**os.environ, "JARFLEET_RUNS": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no run" in done.stderr
    assert "Traceback" not in done.stderr


# the example


def test_the_example_answers_the_usual_questions(run: Run, tmp_path: Path):
    fill(run, everything(), [{"instance": "a", "node": "jetson", "cause": "out_of_memory"}])
    plots = tmp_path / "plots.png"
    done = subprocess.run(
        [sys.executable, "examples/analysis.py", str(run.path), str(plots)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "out_of_memory instance a 1" in words
    assert "jetson 60 1.5 40.0" in words  # 60 tokens in 0.5 s each: at 20, 40 and 60 a second
    assert "a mortality uncertain 70% true 70%" in words
    assert "a 1.0 0.0" in words
    assert plots.read_bytes().startswith(b"\x89PNG")


def test_the_example_takes_a_run_of_ones_own_program(run: Run):
    own(run, "CREATE TABLE t (x)")
    done = subprocess.run(
        [sys.executable, "examples/analysis.py", str(run.path)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_command_of_the_docs_is_the_makefiles():
    """`make -n` shows what `make datasette` would do."""
    assert shutil.which("make")
    done = subprocess.run(["make", "-n", "datasette", "RUN=x"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "python -m fleet.results.browse" in done.stdout
