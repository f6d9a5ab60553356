"""The desired state of a cluster on the disk: what the control loop looks after, and what a person said of it.

One SQLite file (WAL, synchronous=FULL). Playbooks write it beside the loop: a launch before it touches a node, a stop
before it stops. What runs is never in here: that is always asked of the nodes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleet.base.errors import ControlError
from fleet.control.loop_file import folder_of
from fleet.control.model import Desired, Key, Wanted
from fleet.control.playbooks import is_running

FILE = "desired.2.db"  # the number rises with the schema
BUSY_SECONDS = 30
NOT_YET = "it has not answered yet"  # a link's problem
SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY,
    runs_dir TEXT NOT NULL,
    launched INTEGER NOT NULL DEFAULT 0,  -- 0: it has not yet started as a whole
    acting TEXT NOT NULL DEFAULT '',      -- what the loop is doing with it
    starter TEXT NOT NULL DEFAULT ''      -- the playbook that is starting it, see fleet.control.playbooks
);
CREATE TABLE IF NOT EXISTS instances (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    node TEXT NOT NULL,
    stopped INTEGER NOT NULL DEFAULT 0,   -- a person's word
    moving INTEGER NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT '',
    waits TEXT NOT NULL DEFAULT '',       -- why nothing can be done for it now
    PRIMARY KEY (run_id, id)
);
CREATE TABLE IF NOT EXISTS strangers (      -- have not answered since this controller took over, in that term
    node TEXT PRIMARY KEY,
    term INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS links (
    node TEXT PRIMARY KEY,
    problem TEXT NOT NULL                 -- why the loop does not hear of it; empty: it does
);
"""


def store_of(cluster: str) -> DesiredStore | None:
    """Return the store of a cluster; None where no control loop was ever started."""
    folder = folder_of(cluster)
    return DesiredStore(folder) if (folder / FILE).is_file() else None


@dataclass(frozen=True)
class LookedAfter:
    """A run that the loop looks after. waits: {instance: why nothing can be done for it now}.

    starter: the playbook that is starting it, or some of its instances; empty: none.
    """

    run_id: str
    runs_dir: str
    launched: bool = False
    acting: str = ""
    starter: str = ""
    waits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stored:
    """Everything in the store."""

    runs: Mapping[str, LookedAfter]
    instances: Mapping[Key, Wanted]
    links: Mapping[str, str] = field(default_factory=dict)  # {node: why the loop does not hear of it, or empty}
    strangers: Mapping[str, int] = field(default_factory=dict)  # {node: the term in which it has not answered yet}


class DesiredStore:
    """The store of one cluster. Every call is one transaction, on the disk when it returns.

    Each may raise ControlError when the file cannot be opened, and sqlite3.Error when it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / FILE
        with closing(self._open()) as database:
            database.executescript(SCHEMA)

    def look_after(self, run_id: str, runs_dir: Path, instances: Mapping[str, tuple[str, int]], starter: str) -> None:
        """Note what is about to be launched of a run, or resumed. instances: {id: (node, epoch)}.

        What else the store has of the run stays: others of its instances live on, and the loop itself may resume it.
        """
        with self._transaction() as database:
            database.execute(
                "INSERT INTO runs (run_id, runs_dir, starter) VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
                " SET runs_dir = excluded.runs_dir, starter = excluded.starter",
                (run_id, str(runs_dir), starter),
            )
            database.executemany(
                "INSERT INTO instances (run_id, id, epoch, node, moving) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET epoch = excluded.epoch, node = excluded.node, moving = excluded.moving, outcome = '', waits = ''",
                [(run_id, id, epoch, node, epoch > 1) for id, (node, epoch) in instances.items()],
            )

    def take_up(self, run_id: str, runs_dir: Path, instances: Mapping[str, tuple[str, int]]) -> None:
        """Note a run that was launched, or moved, for another controller's loop. instances: {id: (node, epoch)}."""
        with self._transaction() as database:
            database.execute(
                "INSERT INTO runs (run_id, runs_dir, launched) VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET launched = 1",
                (run_id, str(runs_dir)),
            )
            database.executemany(
                "INSERT INTO instances (run_id, id, epoch, node) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET epoch = excluded.epoch, node = excluded.node, stopped = 0, moving = 0, outcome = '', waits = ''"
                " WHERE excluded.epoch > epoch",
                [(run_id, id, epoch, node) for id, (node, epoch) in instances.items()],
            )

    def strangers(self, nodes: Collection[str], term: int) -> None:
        """Note that these nodes, and no others, may still obey the controller that this one takes over from."""
        with self._transaction() as database:
            database.execute("DELETE FROM strangers")
            database.executemany("INSERT INTO strangers VALUES (?, ?)", [(node, term) for node in nodes])

    def admitted(self, nodes: Collection[str], term: int) -> None:
        """Note that these nodes have answered in that term."""
        with self._transaction() as database:
            database.executemany("DELETE FROM strangers WHERE node = ? AND term = ?", [(node, term) for node in nodes])

    def starting(self, run_id: str, ids: Collection[str], starter: str) -> None:
        """Note that a playbook is about to stop these instances, and to start them anew.

        Until it has ended the loop lets act what there is of the run, and no more. Raise ControlError where another
        playbook is at it.
        """
        with self._transaction() as database:
            found = database.execute("SELECT starter FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            if found and found[0] != starter and is_running(found[0]):
                pid = found[0].partition(" ")[0]
                raise ControlError(
                    f"{run_id}: another playbook, process {pid}, is starting it: wait until it has ended"
                )
            database.execute("UPDATE runs SET starter = ? WHERE run_id = ?", (starter, run_id))
            # Who resumes what was stopped wants it again; the loop itself takes no word of a person's back.
            database.executemany(
                "UPDATE instances SET moving = outcome = '', stopped = stopped AND"
                " (SELECT acting FROM runs WHERE run_id = ?1) <> '' WHERE run_id = ?1 AND id = ?2",
                [(run_id, id) for id in ids],
            )

    def launched(self, run_id: str) -> None:
        """Note that all of a run has started: from now on the loop acts for it."""
        with self._transaction() as database:
            database.execute("UPDATE runs SET launched = 1, starter = '' WHERE run_id = ?", (run_id,))
            database.execute("UPDATE instances SET moving = 0 WHERE run_id = ?", (run_id,))

    def cut_off(self, run_id: str) -> None:
        """Note that whoever started a run, or some of its instances, does not any more: what was moving still is."""
        with self._transaction() as database:
            database.execute("UPDATE runs SET launched = 1, starter = '', acting = '' WHERE run_id = ?", (run_id,))

    def forget(self, run_id: str) -> None:
        """Look after a run no more."""
        with self._transaction() as database:
            database.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))

    def stop(self, run_id: str, ids: Collection[str] = ()) -> None:
        """Note that a person wants a run stopped, or some of its instances: nothing of them is started again."""
        with self._transaction() as database:
            where = f" AND id IN ({', '.join('?' * len(ids))})" if ids else ""
            database.execute(f"UPDATE instances SET stopped = 1 WHERE run_id = ?{where}", (run_id, *ids))  # noqa: S608
            database.execute("UPDATE runs SET launched = 1, starter = '' WHERE run_id = ?", (run_id,))

    def acting(self, run_id: str, what: str) -> None:
        """Note what the loop does with a run; empty: nothing any more. Its instances may stop meanwhile."""
        with self._transaction() as database:
            database.execute("UPDATE runs SET acting = ? WHERE run_id = ?", (what, run_id))

    def waits(self, reasons: Mapping[Key, str]) -> None:
        """Note why nothing can be done for these instances now; of all others, that nothing is waited for."""
        with self._transaction() as database:
            database.execute("UPDATE instances SET waits = '' WHERE waits <> ''")
            database.executemany(
                "UPDATE instances SET waits = ? WHERE run_id = ? AND id = ?",
                [(reason, *key) for key, reason in reasons.items()],
            )

    def links(self, problems: Mapping[str, str]) -> None:
        """Note why the loop does not hear of a node, empty where it does; of all its nodes."""
        with self._transaction() as database:
            database.execute("DELETE FROM links")
            database.executemany("INSERT INTO links VALUES (?, ?)", problems.items())

    def decided(self, before: Desired, after: Desired) -> None:
        """Write down what the loop has decided, unless somebody has begun another epoch meanwhile."""

        def told(wanted: Wanted) -> tuple[str, int, str, bool]:
            return wanted.outcome, wanted.epoch, wanted.node, wanted.moving

        changed = [
            (*told(wanted), *key, before.instances[key].epoch)
            for key, wanted in after.instances.items()
            if told(wanted) != told(before.instances[key])
        ]
        if changed:
            with self._transaction() as database:
                database.executemany(
                    "UPDATE instances SET outcome = ?, epoch = ?, node = ?, moving = ?"
                    " WHERE run_id = ? AND id = ? AND epoch = ?",
                    changed,
                )

    def read(self) -> Stored:
        """Return all of it."""
        with closing(self._open()) as database:
            runs = {
                run_id: LookedAfter(run_id, runs_dir, bool(launched), acting, starter)
                for run_id, runs_dir, launched, acting, starter in database.execute(
                    "SELECT run_id, runs_dir, launched, acting, starter FROM runs ORDER BY rowid"
                )
            }
            rows = database.execute(
                "SELECT run_id, id, epoch, node, stopped, moving, outcome, waits FROM instances ORDER BY rowid"
            ).fetchall()
            links = dict(database.execute("SELECT node, problem FROM links").fetchall())
            strangers = dict(database.execute("SELECT node, term FROM strangers").fetchall())
        waits: dict[str, dict[str, str]] = {}
        for run_id, id, *_, reason in rows:
            if reason:
                waits.setdefault(run_id, {})[id] = reason
        return Stored(
            {id: replace(run, waits=waits.get(id, {})) for id, run in runs.items()},
            {
                Key(run_id, id): Wanted(epoch, node, stopped=bool(stopped), moving=bool(moving), outcome=outcome)
                for run_id, id, epoch, node, stopped, moving, outcome, _ in rows
            },
            links,
            strangers,
        )

    def _open(self) -> sqlite3.Connection:
        try:
            database = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                database.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            raise ControlError(f"{self._path}: {error}") from error
        return database

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(self._open()) as database:
            database.execute("BEGIN IMMEDIATE")
            yield database  # what it raises closes the database, and nothing is written
            database.execute("COMMIT")
