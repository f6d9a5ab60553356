"""One database out of many: every row once, its values untouched, and nothing lost to a neighbour's damage."""

import hashlib
import os
import random
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fleet.base.errors import MergeError
from fleet.results.merge import _cure, merge, summary
from workload import database

RUN_ID = "x_20260101T000000Z_0000"
MESSAGES = "CREATE TABLE messages (message_id INTEGER PRIMARY KEY, role TEXT, content TEXT)"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "db").mkdir()
    return tmp_path


def write(run: Path, instance: str, *statements: str, rows: int = 0, start: int = 0) -> Path:
    path = run / "db" / f"{instance}.db"
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        values = ((f"{instance} says {number}",) for number in range(start, start + rows))
        if rows:
            db.executemany("INSERT INTO messages (role, content) VALUES ('user', ?)", values)
        db.commit()
    return path


def read(run: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(run / "experiments.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return db.execute(query).fetchall()


def columns(run: Path, table: str) -> list[str]:
    return [name for (name,) in read(run, f"SELECT name FROM pragma_table_info('{table}')")]


def test_every_row_comes_home_with_its_run_instance_and_node(run: Path):
    write(run, "a", MESSAGES, rows=2)
    write(run, "b", MESSAGES, rows=1)
    report = merge(run, {"a": "jetson", "b": "rpi1"}, RUN_ID)
    assert report["problems"] == {}
    assert report["rows"] == {"a": 2, "b": 1}
    assert columns(run, "messages")[:6] == ["run_id", "instance", "node", "message_id", "role", "content"]
    assert read(run, "SELECT run_id, instance, node, message_id, role, content FROM messages ORDER BY 2, 4") == [
        (RUN_ID, "a", "jetson", 1, "user", "a says 0"),
        (RUN_ID, "a", "jetson", 2, "user", "a says 1"),
        (RUN_ID, "b", "rpi1", 1, "user", "b says 0"),
    ]


def test_merging_again_changes_nothing(run: Path):
    write(run, "a", MESSAGES, rows=5)
    merge(run, {"a": "n"}, RUN_ID)
    before = (run / "experiments.db").read_bytes()
    assert merge(run, {"a": "n"}, RUN_ID)["changed"] is False
    assert (run / "experiments.db").read_bytes() == before


def test_a_source_that_grew_and_changed_is_taken_row_by_row(run: Path):
    write(run, "a", MESSAGES, rows=3)
    merge(run, {"a": "n"}, RUN_ID)
    write(run, "a", "UPDATE messages SET content = NULL WHERE message_id = 2", rows=2, start=3)
    assert merge(run, {"a": "n"}, RUN_ID)["rows"] == {"a": 3}
    assert read(run, "SELECT content FROM messages ORDER BY message_id") == [
        ("a says 0",),
        (None,),
        ("a says 2",),
        ("a says 3",),
        ("a says 4",),
    ]


def test_equal_rows_of_a_table_without_a_key_stay_as_many_as_they_were(run: Path):
    write(run, "a", "CREATE TABLE log (text)", "INSERT INTO log VALUES ('same'), ('same'), (NULL), (NULL)")
    for _ in range(2):
        merge(run, {"a": "n"}, RUN_ID)
    assert read(run, "SELECT text, count(*) FROM log GROUP BY text") == [(None, 2), ("same", 2)]


def test_different_schemas_merge_by_the_union_of_their_tables_and_columns(run: Path):
    write(run, "a", "CREATE TABLE t (x, y)", "INSERT INTO t VALUES (1, 2)", "CREATE TABLE only_a (v)")
    write(run, "b", "CREATE TABLE T (X, z)", "INSERT INTO T VALUES (3, 4)")
    assert merge(run, {"a": "n", "b": "n"}, RUN_ID)["problems"] == {}
    assert read(run, "SELECT instance, x, y, z FROM t ORDER BY 1") == [("a", 1, 2, None), ("b", 3, None, 4)]
    assert read(run, "SELECT count(*) FROM only_a") == [(0,)]


def test_a_column_that_appears_later_is_added(run: Path):
    write(run, "a", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    merge(run, {"a": "n"}, RUN_ID)
    write(run, "a", "ALTER TABLE t ADD COLUMN later TEXT", "UPDATE t SET later = 'now'")
    merge(run, {"a": "n"}, RUN_ID)
    assert read(run, "SELECT x, later FROM t") == [(1, "now")]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_column_declared_differently_converts_no_value(run: Path, at_once: bool):
    write(run, "a", "CREATE TABLE t (v TEXT, w TEXT)", "INSERT INTO t VALUES ('007', '1')")
    write(run, "b", "CREATE TABLE t (v INTEGER, w TEXT)", "INSERT INTO t VALUES (7, '1')")
    if not at_once:
        merge(run, {"a": "n"}, RUN_ID)
    merge(run, {"a": "n", "b": "n"}, RUN_ID)
    assert read(run, "SELECT v, typeof(v), typeof(w) FROM t ORDER BY instance") == [
        ("007", "text", "text"),
        (7, "integer", "text"),
    ]


def test_every_kind_of_value_arrives_as_it_was(run: Path):
    values = "(1, 1.5, 'text', x'00ff', NULL), ('1', '1.5', '', x'', 9223372036854775807)"
    write(run, "a", "CREATE TABLE t (a, b NUMERIC, c TEXT, d BLOB, e)", f"INSERT INTO t VALUES {values}")
    merge(run, {"a": "n"}, RUN_ID)
    own = "SELECT a, typeof(a), b, typeof(b), c, d, typeof(d), e FROM t ORDER BY rowid"
    with closing(sqlite3.connect(run / "db" / "a.db")) as source:
        assert read(run, own) == source.execute(own).fetchall()


def test_a_source_with_our_column_names_keeps_its_own_values_beside_ours(run: Path):
    create = 'CREATE TABLE t (id INTEGER, Instance TEXT, node TEXT, source_node TEXT, rowid TEXT, "source_rowid" TEXT)'
    write(run, "a", create, "INSERT INTO t VALUES (1, 'theirs', 'their node', 'kept', 'r', 's')")
    for _ in range(2):
        assert merge(run, {"a": "ours"}, RUN_ID)["problems"] == {}
    query = "SELECT instance, node, source_Instance, source_node, source_source_node, source_source_rowid FROM t"
    assert read(run, query) == [("a", "ours", "theirs", "kept", "their node", "s")]


def test_names_that_look_like_sql_are_names(run: Path):
    name = 'x"; DROP TABLE messages; --'
    quoted = '"' + name.replace('"', '""') + '"'
    write(run, "a", MESSAGES, f"CREATE TABLE {quoted} ({quoted} INTEGER, [select] TEXT)", rows=1)
    write(run, "a", f"INSERT INTO {quoted} VALUES (1, 'y')")
    for _ in range(2):
        assert merge(run, {"a": "n"}, RUN_ID)["problems"] == {}
    assert summary(run) == {"messages": {"a": 1}, name: {"a": 1}}


def test_a_table_without_rowid_is_kept_apart_by_its_primary_key(run: Path):
    create = "CREATE TABLE t (k TEXT, n INT, v TEXT, PRIMARY KEY (n, k)) WITHOUT ROWID"
    write(run, "a", create, "INSERT INTO t VALUES ('x', 1, 'old'), ('x', 2, 'b')")
    write(run, "b", create, "INSERT INTO t VALUES ('x', 1, 'c')")
    merge(run, {"a": "n", "b": "n"}, RUN_ID)
    write(run, "a", "UPDATE t SET v = 'new' WHERE n = 1", "INSERT INTO t VALUES ('y', 1, 'd')")
    assert merge(run, {"a": "n", "b": "n"}, RUN_ID)["rows"] == {"a": 2, "b": 0}
    assert read(run, "SELECT instance, k, n, v FROM t ORDER BY 1, 3, 2") == [
        ("a", "x", 1, "new"),
        ("a", "y", 1, "d"),
        ("a", "x", 2, "b"),
        ("b", "x", 1, "c"),
    ]


def test_one_table_may_be_with_rowid_here_and_without_there(run: Path):
    write(run, "a", "CREATE TABLE t (k TEXT PRIMARY KEY) WITHOUT ROWID", "INSERT INTO t VALUES ('x')")
    write(run, "b", "CREATE TABLE t (k TEXT)", "INSERT INTO t VALUES ('x'), ('x')")
    for _ in range(2):
        assert merge(run, {"a": "n", "b": "n"}, RUN_ID)["problems"] == {}
    assert summary(run) == {"t": {"a": 1, "b": 2}}


def test_constraints_triggers_views_and_virtual_tables_of_a_source_do_not_travel(run: Path):
    view, virtual = "CREATE VIEW v AS SELECT * FROM t", "CREATE VIRTUAL TABLE f USING fts5(body)"
    trigger = "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t; END"
    write(run, "a", "CREATE TABLE t (u UNIQUE CHECK (u < 10))", view, trigger, virtual)
    write(run, "b", "CREATE TABLE t (u)", "INSERT INTO t VALUES (99), (99)")
    assert merge(run, {"a": "n", "b": "n"}, RUN_ID)["problems"] == {}
    made = read(run, "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view', 'trigger')")
    assert made == [("merged_sources",), ("t",)]
    assert read(run, "SELECT u FROM t") == [(99,), (99,)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "missing"),
        (b"", "the file is empty"),
        (b"not a database" * 500, "file is not a database"),
        (b"SQLite format 3\0" + b"\xff" * 5000, ""),
    ],
    ids=["missing", "empty", "text", "garbled header"],
)
def test_what_is_no_database_is_reported_and_the_rest_is_kept(run: Path, content: bytes | None, problem: str):
    write(run, "a", MESSAGES, rows=3)
    write(run, "c", MESSAGES, rows=3)
    if content is not None:
        (run / "db" / "b.db").write_bytes(content)
    report = merge(run, {"a": "n", "b": "n", "c": "n"}, RUN_ID)
    assert list(report["problems"]) == ["b"]
    assert problem in report["problems"]["b"]
    assert summary(run) == {"messages": {"a": 3, "c": 3}}


@pytest.mark.parametrize("spare", [0, 1000], ids=["at a page", "within a page"])
def test_of_a_database_that_is_cut_off_the_rows_before_the_cut_are_kept(run: Path, spare: int):
    path = write(run, "a", MESSAGES, rows=20_000)
    write(run, "b", MESSAGES, rows=10)
    whole = path.stat().st_size
    os.truncate(path, whole // 2 // 4096 * 4096 + spare)
    report = merge(run, {"a": "n", "b": "n"}, RUN_ID)
    assert list(report["problems"]) == ["a"]
    kept = summary(run)["messages"]["a"]
    assert f"messages after {kept} rows" in report["problems"]["a"]
    assert 8_000 < kept < 12_000
    assert summary(run)["messages"]["b"] == 10
    wrong = "SELECT count(*) FROM messages WHERE instance = 'a' AND content IS NOT 'a says ' || (message_id - 1)"
    assert read(run, wrong) == [(0,)]


def test_damage_in_one_table_costs_the_other_tables_nothing(run: Path):
    path = write(run, "a", "CREATE TABLE other (v)", MESSAGES, "INSERT INTO other VALUES (1)", rows=5_000)
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'messages'").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(os.urandom(4096))
    report = merge(run, {"a": "n"}, RUN_ID)
    assert "messages" in report["problems"]["a"]
    assert summary(run).get("other") == {"a": 1}


def test_damage_after_a_good_merge_takes_nothing_back(run: Path):
    path = write(run, "a", MESSAGES, rows=5_000)
    merge(run, {"a": "n"}, RUN_ID)
    os.truncate(path, path.stat().st_size // 2)
    assert merge(run, {"a": "n"}, RUN_ID)["problems"]
    assert summary(run) == {"messages": {"a": 5_000}}


def test_a_wal_that_was_fetched_beside_its_database_is_read_and_left_as_it_is(run: Path):
    live = run / "live.db"
    with closing(sqlite3.connect(live)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(MESSAGES)
        db.execute("INSERT INTO messages (content) VALUES ('only in the WAL')")
        db.commit()
        shutil.copy(live, run / "db" / "a.db")
        shutil.copy(run / "live.db-wal", run / "db" / "a.db-wal")
    before = {path.name: path.read_bytes() for path in (run / "db").iterdir()}
    merge(run, {"a": "n"}, RUN_ID)
    assert read(run, "SELECT content FROM messages") == [("only in the WAL",)]
    assert {path.name: path.read_bytes() for path in (run / "db").iterdir()} == before


@pytest.fixture
def interrupted(run: Path) -> tuple[Path, Path, dict[str, set[tuple[Any, ...]]]]:
    """A database as its writer left it, 30 transactions in the file and 10 more in the log; and all that it holds."""
    live = database.open(run / "live.db")
    tables = ("experiments", "messages", "system_metrics")
    with closing(sqlite3.connect(run / "live.db", isolation_level=None)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("INSERT INTO experiments VALUES ('x', '', '', '', '', '', NULL, NULL, 0, 0, NULL, NULL, 1)")
        for transaction in range(40):
            db.execute("BEGIN")
            for number in range(transaction * 25, transaction * 25 + 25):
                text = f"{number} " * (20 + number % 50)
                db.execute(
                    "INSERT INTO messages (experiment_id, cycle_number, timestamp, role, content, sender, round)"
                    " VALUES ('x', 1, '', 'user', ?, 'b', ?)",
                    (text, number),
                )
                db.execute(
                    "INSERT INTO system_metrics (experiment_id, cycle_number, timestamp, memory_usage_mb, round)"
                    " VALUES ('x', 1, '', 1.5, ?)",
                    (number,),
                )
            db.execute("COMMIT")
            if transaction == 29:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        held = {table: set(db.execute(f"SELECT rowid, * FROM {table}")) for table in tables}
        for end in ("", "-wal"):
            shutil.copy(run / f"live.db{end}", run / f"left.db{end}")
    live.close()
    return run / "left.db", run / "left.db-wal", held


def kept(run: Path, held: dict[str, set[tuple[Any, ...]]]) -> int:
    """How many rows of `a` were merged, after each was found to be as it was."""
    count = 0
    for table, rows in held.items():
        if own := [name for name in columns(run, table) if name not in ("run_id", "instance", "node", "source_rowid")]:
            found = read(run, f"SELECT source_rowid, {', '.join(own)} FROM {table} WHERE instance = 'a'")
            assert set(found) <= rows, "no row that never was"
            assert len(found) == len(set(found))
            count += len(found)
    return count


@pytest.mark.parametrize("seed", range(30))
def test_a_database_cut_anywhere_is_reported_and_gives_what_lies_before(
    run: Path, interrupted: tuple[Path, Path, dict[str, set[tuple[Any, ...]]]], seed: int
):
    """The file, with its log or without it, or the log, or both: at any byte, and at the ends of pages and frames."""
    main, log, held = interrupted
    chance = random.Random(seed)  # noqa: S311 - where to cut
    cut_main, with_log, cut_log = [(True, False, False), (True, True, False), (False, True, True), (True, True, True)][
        seed % 4
    ]
    shutil.copy(main, run / "db" / "a.db")
    if cut_main:
        size = chance.randrange(1, main.stat().st_size)
        os.truncate(run / "db" / "a.db", size if seed % 3 else max(1, size // 4096) * 4096)
    if with_log:
        shutil.copy(log, run / "db" / "a.db-wal")
    if cut_log:
        os.truncate(run / "db" / "a.db-wal", chance.randrange(33, log.stat().st_size))
    write(run, "b", MESSAGES, rows=3)
    report = merge(run, {"a": "n", "b": "n"}, RUN_ID)
    assert list(report["problems"]) == ["a"]
    assert str(run) not in report["problems"]["a"]
    assert summary(run)["messages"]["b"] == 3
    rows = kept(run, held)
    assert rows < sum(map(len, held.values()))
    assert rows >= 1501 or cut_main, "the log is cut, the file is whole"
    again = merge(run, {"a": "n", "b": "n"}, RUN_ID)
    assert (again["changed"], again["problems"]) == (False, report["problems"])


def test_what_a_log_holds_is_merged_without_a_word_when_it_is_whole(
    run: Path, interrupted: tuple[Path, Path, dict[str, set[tuple[Any, ...]]]]
):
    main, log, held = interrupted
    shutil.copy(main, run / "db" / "a.db")
    shutil.copy(log, run / "db" / "a.db-wal")
    assert merge(run, {"a": "n"}, RUN_ID)["problems"] == {}
    assert kept(run, held) == sum(map(len, held.values())) == 2001


def test_the_workload_s_tables_arrive_with_their_names_and_columns(run: Path):
    database.open(run / "db" / "a.db").close()
    assert merge(run, {"a": "n"}, RUN_ID)["problems"] == {}
    with closing(sqlite3.connect(run / "db" / "a.db")) as source:
        names = [name for (name,) in source.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        own = {name: [row[1:3] for row in source.execute(f"PRAGMA table_info({name})")] for name in names}
    lead = [("run_id", "TEXT"), ("instance", "TEXT"), ("node", "TEXT")]
    for name, declared in own.items():
        found = read(run, f"SELECT name, type FROM pragma_table_info('{name}')")
        assert found == [*lead, *declared, ("source_rowid", "INTEGER")]
    assert len(own) > 15


def test_a_file_that_has_not_changed_is_not_read_again(run: Path):
    """Seen by a row that is missing in the merged database and stays so."""
    path = write(run, "a", MESSAGES, rows=3)
    write(run, "b", MESSAGES, rows=3)
    merge(run, {"a": "jetson", "b": "rpi1"}, RUN_ID)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    query = "SELECT run_id, node, bytes, sha256, problem FROM merged_sources WHERE instance = 'a'"
    assert read(run, query) == [(RUN_ID, "jetson", path.stat().st_size, sha256, None)]
    with closing(sqlite3.connect(run / "experiments.db")) as db:
        db.execute("DELETE FROM messages WHERE message_id = 1")
        db.commit()
    write(run, "b", rows=1)
    assert merge(run, {"a": "jetson", "b": "rpi1"}, RUN_ID)["rows"] == {"a": 0, "b": 2}
    assert summary(run) == {"messages": {"a": 2, "b": 4}}


def test_a_damaged_file_is_read_again_and_reported_again(run: Path):
    path = write(run, "a", MESSAGES, rows=20_000)
    os.truncate(path, path.stat().st_size // 2)
    first = merge(run, {"a": "n"}, RUN_ID)["problems"]
    assert read(run, "SELECT problem FROM merged_sources") == [(first["a"],)]
    before = (run / "experiments.db").read_bytes()
    assert merge(run, {"a": "n"}, RUN_ID)["problems"] == first
    assert (run / "experiments.db").read_bytes() == before


def test_a_source_s_table_by_the_name_of_one_of_ours_stands_beside_it(run: Path):
    write(run, "a", "CREATE TABLE Deaths (who)", "INSERT INTO Deaths VALUES ('theirs')")
    write(run, "b", "CREATE TABLE merged_sources (sha256)", "INSERT INTO merged_sources VALUES ('theirs')")
    for _ in range(2):
        assert merge(run, {"a": "n", "b": "n"}, RUN_ID)["problems"] == {}
    assert read(run, "SELECT instance, who FROM source_deaths") == [("a", "theirs")]
    assert read(run, "SELECT instance, sha256 FROM source_merged_sources") == [("b", "theirs")]
    assert read(run, "SELECT count(*) FROM merged_sources") == [(2,)]


def test_a_wal_database_without_its_wal_leaves_no_sidecars(run: Path):
    write(run, "a", "PRAGMA journal_mode = WAL", MESSAGES, rows=4)
    assert merge(run, {"a": "n"}, RUN_ID)["problems"] == {}
    assert [path.name for path in (run / "db").iterdir()] == ["a.db"]
    assert summary(run) == {"messages": {"a": 4}}


def test_a_write_that_was_cut_short_by_a_crash_is_rolled_back_by_its_journal(run: Path):
    path = write(run, "live", MESSAGES, rows=2_000)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA cache_size = 5")
        db.execute("BEGIN")
        db.execute("UPDATE messages SET content = 'never committed'")
        for end in ("", "-journal"):
            shutil.copy(run / "db" / f"live.db{end}", run / "db" / f"a.db{end}")
        db.execute("ROLLBACK")
    assert merge(run, {"a": "n"}, RUN_ID)["problems"] == {}
    assert read(run, "SELECT count(*), min(content LIKE 'live says %') FROM messages") == [(2_000, 1)]


def test_of_an_instance_that_moved_each_row_names_the_node_that_last_wrote_it(run: Path):
    write(run, "a", MESSAGES, rows=2)
    merge(run, {"a": "rpi1"}, RUN_ID)
    write(run, "a", "UPDATE messages SET content = 'again' WHERE message_id = 2", rows=1)
    merge(run, {"a": "rpi2"}, RUN_ID)
    assert read(run, "SELECT node FROM messages ORDER BY message_id") == [("rpi1",), ("rpi2",), ("rpi2",)]


@pytest.mark.parametrize("instance", ["../a", "a/b", "", ".."])
def test_an_instance_that_is_a_path_is_refused(run: Path, instance: str):
    with pytest.raises(MergeError, match="cannot be a file's name"):
        merge(run, {instance: "n"}, RUN_ID)


def test_a_merged_database_that_is_none_is_never_overwritten(run: Path):
    write(run, "a", MESSAGES, rows=1)
    (run / "experiments.db").write_bytes(b"mine" * 1000)
    with pytest.raises(MergeError, match=r"experiments\.db: .*move it away and fetch again"):
        merge(run, {"a": "n"}, RUN_ID)
    with pytest.raises(MergeError, match=r"experiments\.db"):
        summary(run)
    assert (run / "experiments.db").read_bytes() == b"mine" * 1000


def test_a_full_disk_asks_for_room_and_not_for_moving_anything_away():
    with closing(sqlite3.connect(":memory:")) as full:
        full.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.OperationalError) as error:
            full.execute("CREATE TABLE t AS SELECT zeroblob(100000)")
    assert _cure(error.value) == "make room on its disk and fetch again"
    assert _cure(sqlite3.DatabaseError("file is not a database")) == "move it away and fetch again"


def test_a_summary_before_any_merge_is_empty(run: Path):
    assert summary(run) == {}


def test_a_folder_whose_name_looks_like_an_address_is_only_a_folder(tmp_path: Path):
    run = tmp_path / "a?mode=memory#x %41"
    (run / "db").mkdir(parents=True)
    write(run, "a", MESSAGES, rows=1)
    assert merge(run, {"a": "n"}, RUN_ID)["problems"] == {}
    assert summary(run) == {"messages": {"a": 1}}


def test_twenty_instances_of_twenty_thousand_rows_take_seconds(run: Path):
    first = write(run, "i00", MESSAGES, rows=20_000)
    for number in range(1, 20):
        shutil.copy(first, run / "db" / f"i{number:02}.db")
    started = time.process_time()
    report = merge(run, {f"i{number:02}": "n" for number in range(20)}, RUN_ID)
    assert sum(report["rows"].values()) == 400_000
    assert summary(run)["messages"] == {f"i{number:02}": 20_000 for number in range(20)}
    assert time.process_time() - started < 15  # CPU seconds; 2 on a quiet core, a loop over rows takes far more
