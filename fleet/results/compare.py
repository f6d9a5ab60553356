"""Compare several runs: what was the same, what was not, and where their minds first acted differently."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import zip_longest
from typing import Any

from contract.events import Collected
from fleet.base.errors import RunError
from fleet.base.text_table import table
from fleet.record.manifest import canonical_sha256
from fleet.record.run_folder import Run, list_runs
from fleet.results.merged_database import DATABASE, Merged, deaths_of, opened

Row = dict[str, Any]
# What a mind did, said, heard and thought; times, durations, memory use and nonces are left out.
ROUNDS = {
    "messages": ("round", "sender", "recipient", "role", "content", "emotion", "corrupted", "injected", "remembered"),
    "negotiations": ("round", "resource", "proposer", "asked", "total", "decision"),
    "shared_memory": ("round", "position", "author", "content"),
    "consensus": ("round", "question", "votes_json", "outcome", "agreement"),
    "game_rounds": (
        *("round", "opponent", "own_move", "opponent_move", "own_payoff", "opponent_payoff", "remembered_json"),
    ),
    "observations": ("round", "subject", "subject_cycle_number", "observer_mode", "observation_text"),
}
LIVES = {
    "self_reports": ("cycle_number", "occasion", "question", "response", "confidence_score", "semantic_category"),
    "epistemic_assessments": ("cycle_number", "belief_type", "belief_state", "confidence"),
}
SHOWN = 44  # characters of a cell


def transcript(db: Merged) -> list[Row]:
    """Return everything that the minds of a run did and said, in an order that does not depend on time.

    Each row is {"table", "instance", ...columns}: first by round (messages, negotiations, shared_memory, consensus,
    game_rounds, observations), then by life (self_reports, epistemic_assessments), within these by table and instance,
    and in the order in which the instance wrote them. Two runs with equal lists took the same course. The list is empty
    for a user's own program without such tables.
    """
    rows: list[Row] = []
    for tables, by in ((ROUNDS, "round"), (LIVES, "cycle_number")):
        found = [
            {"table": name, **{key: value for key, value in row.items() if key != "node"}}
            for name, columns in tables.items()
            for row in db.rows(name, *columns)
        ]
        rows += sorted(found, key=lambda row: _number(row[by]))  # stable, and a table's rows come by instance
    return rows


def first_difference(one: Sequence[Row], other: Sequence[Row]) -> tuple[Row | None, Row | None] | None:
    """Return the first pair of rows in which two transcripts differ (None in it: it has ended), or None if equal."""
    return next((pair for pair in zip_longest(one, other) if pair[0] != pair[1]), None)


def chosen(runs_dir: str, wanted: Sequence[str]) -> list[Run]:
    """Return the runs of these ids; without any, the newest and the one before it of the same experiment.

    Raise RunError naming what is missing.
    """
    if wanted:
        found = [Run.open(runs_dir, id) for id in dict.fromkeys(wanted)]
        if len(found) < 2:
            raise RunError(f"{', '.join(wanted)}: at least two different runs can be compared; -e runs=ONE,OTHER")
        return found
    newest, *older = list_runs(runs_dir) or [Run.open(runs_dir, "latest")]
    name = _name(newest)
    before = next((run for run in older if _name(run) == name), None)
    if before is None:
        raise RunError(f"{newest.run_id}: there is no other run of this experiment; say which: -e runs=ONE,OTHER")
    return [before, newest]


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """Compare runs.

    Return {"runs": {run_id: facts}, "differences": the facts that are not the same in all, "transcripts": [{"runs":
    [the first, another], "identical": None if neither has one, "rows": [how many each has], "not_in_the_other": [...],
    "first": None or {"table", "round" or "cycle_number", "who", "in": [row or None, row or None]}}]}. `facts` has no
    key for what a run does not have. Raise RunError for a record that cannot be read.
    """
    facts: dict[str, dict[str, Any]] = {}
    talks: list[list[Row]] = []
    for run in runs:
        with ExitStack() as stack:
            db = stack.enter_context(opened(run.path)) if (run.path / DATABASE).is_file() else None
            talks.append(transcript(db) if db else [])
            facts[run.run_id] = {**_planned(run), **(_happened(db) if db else {}), **_digest(talks[-1])}
    names = dict.fromkeys(name for one in facts.values() for name in one)
    unequal = [name for name in names if len({canonical_sha256(one.get(name)) for one in facts.values()}) > 1]
    ids = [run.run_id for run in runs]
    pairs = [_pair((ids[0], id), talks[0], talk) for id, talk in zip(ids[1:], talks[1:], strict=True)]
    return {"runs": facts, "differences": [name for name in unequal if name != "created"], "transcripts": pairs}


def _name(run: Run) -> str:
    return run.run_id.rsplit("_", 2)[0]


def _planned(run: Run) -> dict[str, Any]:
    """Return what was to be run, and how it ended."""
    manifest, plan = run.manifest, run.plan
    code = _mapping(manifest.get("code"))
    collected = [event for _, event in run.events() if isinstance(event, Collected)]
    launched = _mapping(manifest.get("instances"))
    return {
        "experiment": _name(run),
        "experiment sha256": manifest.get("experiment_sha256"),
        "created": manifest.get("created_at"),
        "code": code.get("hash"),
        "models": {id: model["sha256"] for id, model in _mapping(manifest.get("models")).items()},
        "llama.cpp": dict(_mapping(manifest.get("llama_cpp"))),
        "nodes": dict(_mapping(plan.get("assignments"))),
        "plan's score": plan.get("score"),
        "seed of the placement": plan.get("seed"),
        "seeds": {id: one.get("seed") for id, one in launched.items()},
        "status": dict(collected[-1].statuses) if collected else {},
    }


def _happened(db: Merged) -> dict[str, Any]:
    """Return what happened in the run."""
    facts: dict[str, Any] = {}
    if db.has("experiment_cycles"):
        facts["lives"] = _by_instance(db, "experiment_cycles", "count(*)")
    if db.has("experiment_cycles") or db.has("deaths"):
        died = Counter(str(death["cause"]) for death in deaths_of(db))
        facts["deaths"] = {"all": died.total(), **dict(sorted(died.items()))}
    if db.has("messages"):
        facts["messages"] = _by_instance(db, "messages", "count(*)")
    if db.has("generations", "tokens", "tokens_per_second"):
        facts["tokens"] = _by_instance(db, "generations", "sum(tokens)")
        rate = "round(sum(tokens) / sum(tokens / tokens_per_second), 1)"
        facts["tokens/s"] = _by_instance(db, "generations", rate, "node", "WHERE tokens_per_second > 0")
    if db.has("game_rounds", "own_move", "own_payoff") and db.count("game_rounds"):
        facts["cooperation rate"] = _by_instance(db, "game_rounds", "round(avg(own_move = 'cooperate'), 4)")
        facts["score"] = _by_instance(db, "game_rounds", "sum(own_payoff)")
    beliefs = {
        f"{row['instance']}: {row['belief_type']}": f"{row['belief_state']} {row['confidence']:.0%}"
        for row in db.rows("epistemic_assessments", *LIVES["epistemic_assessments"], order="cycle_number")
    }
    if beliefs:
        facts["beliefs at last"] = dict(sorted(beliefs.items()))
    return facts


def _by_instance(db: Merged, name: str, what: str, by: str = "instance", where: str = "") -> dict[str, Any]:
    query = f"SELECT {by}, {what} FROM {name} {where} GROUP BY {by} ORDER BY {by}"  # noqa: S608 - our own words
    return dict(db.connection.execute(query).fetchall())


def _digest(talk: Sequence[Row]) -> dict[str, Any]:
    """Return a digest of a transcript, to see quickly whether two are equal."""
    return {"transcript": canonical_sha256([*talk])} if talk else {}


def _pair(ids: tuple[str, str], one: Sequence[Row], other: Sequence[Row]) -> dict[str, Any]:
    difference = first_difference(one, other)
    first: dict[str, Any] | None = None
    if difference:
        at = difference[0] or difference[1] or {}
        by = "round" if "round" in at else "cycle_number"
        who = at.get("sender") or at.get("author") or at["instance"]
        first = {"table": at["table"], by: at[by], "who": who, "in": list(difference)}
    mine, theirs = _counted(one), _counted(other)
    return {
        "runs": list(ids),
        "identical": difference is None if one or other else None,
        "rows": [len(one), len(other)],
        "not_in_the_other": [(mine - theirs).total(), (theirs - mine).total()],
        "first": first,
    }


def _counted(talk: Sequence[Row]) -> Counter[str]:
    return Counter(canonical_sha256(row) for row in talk)


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """Return the comparison as text for a person: a column per run, `*` before what is not the same in all."""
    return "\n".join(
        [table(("", "", *comparison["runs"]), side_by_side(comparison)), "", *transcript_lines(comparison)]
    )


def side_by_side(comparison: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return one row per fact, as text: (`*` if it is not the same in all, its name, its value in each run)."""
    runs: Mapping[str, Mapping[str, Any]] = comparison["runs"]
    rows: list[tuple[str, ...]] = []
    for name in dict.fromkeys(name for facts in runs.values() for name in facts):
        mark = "*" if name in comparison["differences"] else ""
        cells = [facts.get(name) for facts in runs.values()]
        keys = dict.fromkeys(key for cell in cells if isinstance(cell, Mapping) for key in cell)
        if not keys:
            rows.append((mark, name, *map(_shown, cells)))
        for place, key in enumerate(keys):
            values = [_mapping(cell).get(key) for cell in cells]
            unequal = "*" if mark and len({str(value) for value in values}) > 1 else ""
            rows.append((unequal, name if place == 0 else "", *(f"{key} {_shown(value)}" for value in values)))
    return rows


def transcript_lines(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the transcripts compare, one line each."""
    for pair in comparison["transcripts"]:
        both = " and ".join(pair["runs"])
        if pair["identical"] is None:
            yield f"{both}: no transcript to compare"
        elif pair["identical"]:
            yield f"{both}: the same transcript, {pair['rows'][0]} rows"
        else:
            first = pair["first"]
            by = f"round {first['round']}" if "round" in first else f"life {first['cycle_number']}"
            yield f"{both}: the transcripts first differ in {by}, {first['table']} of {first['who']}:"
            for id, row in zip(pair["runs"], first["in"], strict=True):
                yield f"  {id}: {_line(row)}"
            yield "  rows that the other does not have: {} and {}".format(*pair["not_in_the_other"])


def _line(row: Row | None) -> str:
    if row is None:
        return "nothing more"
    values = {
        key: value for key, value in row.items() if key not in {"table", "round", "cycle_number"} and value is not None
    }
    text = ", ".join(f"{key} {value}" for key, value in values.items())
    text = " ".join(text.split())
    return text if len(text) <= 4 * SHOWN else f"{text[: 4 * SHOWN - 3]}..."


def _shown(value: Any) -> str:
    if value is None or value == {}:
        return "-"
    text = " ".join((f"{value:g}" if isinstance(value, float) else str(value)).split())
    if len(text) == hashlib.sha256().digest_size * 2 and text.isalnum():
        return f"{text[:12]}..."
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0
