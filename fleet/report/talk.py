"""The transcript in a report: what all minds said and heard, in one order."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Any

from fleet.report.blocks import Fold, Note, Said, clipped
from fleet.report.source import Source
from fleet.results.merged_database import Merged

MESSAGES = 1500  # rows that are shown from the beginning, and as many from the end
OPEN = 12  # up to this many rounds, all are expanded from the start
COLUMNS = (
    *("cycle_number", "timestamp", "role", "content", "emotion", "corrupted", "injected"),
    *("sender", "recipient", "round", "remembered"),
)


def talk(source: Source) -> list[Any]:
    """Return a collapsible part per round: everything that was said once, who heard it, and how it is remembered."""
    db = source.db
    if db is None or not db.has("messages", *COLUMNS) or not (total := db.count("messages")):
        return []
    first, last = _bounds(db, total)
    blocks: list[Any] = []
    if first is not None:
        rest = f"make datasette RUN={source.run.run_id}, table messages"
        blocks.append(
            Note(f"{total:,} messages. The rounds after {first:,} and before {last:,} are not shown; all: {rest}.")
        )
    rounds = []
    for number, rows in groupby(db.rows("messages", *COLUMNS, order="round, timestamp"), key=itemgetter("round")):
        if first is None or last is None or number <= first or number >= last:
            rounds.append((number, _round(list(rows)[: 2 * MESSAGES])))
    for number, said in rounds:
        blocks.append(Fold(f"Round {number}", said, open=len(rounds) <= OPEN))
    return blocks


def _bounds(db: Merged, total: int) -> tuple[int | None, int | None]:
    """Return the last round shown at the beginning and the first shown at the end; (None, None): all are shown."""
    if total <= 2 * MESSAGES:
        return None, None
    counts = db.connection.execute("SELECT round, count(*) FROM messages GROUP BY round ORDER BY round").fetchall()
    return _reach(counts), _reach(reversed(counts))


def _reach(counts: Any) -> Any:
    """Return the round in which the number of messages reaches MESSAGES."""
    sum = 0
    for number, messages in counts:
        sum += messages
        if sum >= MESSAGES:
            return number
    return number


def _round(rows: list[dict[str, Any]]) -> list[Said]:
    """Return a round's messages; copies of speaker and hearers become one, with altered memories listed below it."""
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        alike.setdefault((row["sender"], row["content"], row["injected"]), []).append(row)
    return [_said(who, copies) for (who, _, _), copies in alike.items()]


def _said(who: str, copies: list[dict[str, Any]]) -> Said:
    own = next((row for row in copies if row["instance"] == who), None)
    at = own or copies[0]
    heard = [row["instance"] for row in copies if row is not own]
    about = [f"life {at['cycle_number']}"] if own else []
    about += [f"to {', '.join(dict.fromkeys(heard))}"] if heard else []
    marks = [at["emotion"]] if at["emotion"] else []
    marks += ["injected"] if at["injected"] else []
    corrupted = [row["instance"] for row in copies if row["corrupted"]]
    marks += [f"corrupted in {', '.join(dict.fromkeys(corrupted))}"] if corrupted else []
    remembered = [
        (f"{row['instance']} remembers", clipped(row["remembered"], "messages") or "nothing of it")
        for row in copies
        if row["remembered"] is not None
    ]
    return Said(str(who), clipped(str(at["content"]), "messages"), ", ".join(about), marks, remembered, own is not None)
