"""Several runs side by side: what was the same, what was not, and where their minds first said something else."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from fleet.merged import Merged

Row = dict[str, Any]
# What a mind did, said, heard and thought, without when, how long, and in how much memory; nor with which nonce.
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


def transcript(db: Merged) -> list[Row]:
    """All that the minds of a run did and said, in one order that does not hang on when it happened.

    Each row is {"table", "instance", ...columns}: first by round (messages, negotiations, shared_memory, consensus,
    game_rounds, observations), then by life (self_reports, epistemic_assessments), within these by table and instance,
    and as the instance wrote them. Two runs whose lists are equal went the same way. Empty for a program of the user's
    own that has no such tables.
    """
    rows: list[Row] = []
    for tables, by in ((ROUNDS, "round"), (LIVES, "cycle_number")):
        found = [
            {"table": table, **{key: value for key, value in row.items() if key != "node"}}
            for table, columns in tables.items()
            for row in db.rows(table, *columns)
        ]
        rows += sorted(found, key=lambda row: _number(row[by]))  # stable, and a table comes by instance
    return rows


def first_difference(one: list[Row], other: list[Row]) -> tuple[Row | None, Row | None] | None:
    """The first place at which two transcripts differ: what is there in each (None: it has ended); None if nowhere."""
    return next((pair for pair in zip_longest(one, other) if pair[0] != pair[1]), None)


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0
