"""The sections of a report that come from tables of the built-in workload; a section without rows is left out."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby, islice, pairwise
from operator import itemgetter
from statistics import quantiles
from typing import Any

from fleet.report import plots
from fleet.report.blocks import Fold, Note, Plot, Said, clipped, table
from fleet.report.source import Source
from fleet.results.merged_database import Merged

BELIEFS = 60  # at most, as rows of their plot
LIVES = 200  # at most, as columns of that plot: the last ones
ANSWERS = 300  # at most, of self-reports and of other texts that are collapsed
Blocks = list[Any]


def speed(source: Source) -> Blocks:
    """Return how fast each node's llama-server generated tokens, and how much of each prompt it knew already."""
    db = source.db
    if db is None:
        return []
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    totals: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0, 0, 0, 0, 0])
    told = ("cached_tokens",) if db.has("generations", "cached_tokens") else ()  # a run of an older Jarfleet has none
    for row in db.rows("generations", "prompt_tokens", "tokens", "seconds", "tokens_per_second", *told):
        where, rate, cached = (row["node"], row["instance"]), row["tokens_per_second"], row.get("cached_tokens") or 0
        read = (row["prompt_tokens"] or 0) - cached
        for place, value in enumerate((1, read, cached, row["tokens"], row["seconds"])):
            totals[where][place] += value
        if rate:
            rates[where].append(rate)
            totals[where][5] += row["tokens"] / rate
    if not totals:
        return []
    spans = {where: _span(found) for where, found in sorted(rates.items())}
    rows = []
    for where, (calls, read, cached, tokens, seconds, generating) in sorted(totals.items()):
        counts = map(int, (calls, read, cached, tokens))
        overall = tokens / generating if generating else None
        rows.append((*where, *counts, seconds, overall, *spans.get(where, (None,) * 3)))
    head = (
        *("node", "mind", "calls", "tokens read", "tokens known before", "tokens generated", "time in calls, s"),
        *("tokens/s overall", "tokens/s, 10 %", "median", "90 %"),
    )
    blocks: Blocks = []
    if spans:
        shown = dict(islice(((f"{node}: {id}", span) for (node, id), span in spans.items()), 60))
        drawn = plots.spread("speed", "Tokens per second on each node", "tokens per second", shown)
        caption = (
            "Of the calls of each mind: the median as a dot, 10 to 90 % of them as a line, as llama-server measured."
        )
        blocks.append(Plot(drawn, caption))
    return [*blocks, table("Generating, by node and mind", head, rows, len(rows), "generations")]


def _span(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    tenths = quantiles(values, n=10, method="inclusive")
    return tenths[0], tenths[4], tenths[8]


def beliefs(source: Source) -> Blocks:
    """Return what each mind believed, life by life."""
    needed = ("cycle_number", "belief_type", "belief_state", "confidence")
    found: dict[tuple[str, str], dict[int, tuple[str, float]]] = defaultdict(dict)
    for row in source.db.rows("epistemic_assessments", *needed, order="cycle_number") if source.db else ():
        state = str(row["belief_state"]), float(row["confidence"] or 0)
        found[row["instance"], str(row["belief_type"])][int(row["cycle_number"])] = state
    if not found:
        return []
    held = dict(sorted(found.items()))
    last = max(life for lives in held.values() for life in lives)
    drawn = {
        f"{id}: {belief}": {life: state for life, state in lives.items() if life > last - LIVES}
        for (id, belief), lives in islice(held.items(), BELIEFS)
    }
    rows = []
    for (id, belief), lives in held.items():
        states = [state for state, _ in lives.values()]
        changes = sum(before != after for before, after in pairwise(states))
        (first, sure), (now, sure_now) = next(iter(lives.values())), next(reversed(lives.values()))
        rows.append((id, belief, len(lives), first, _percent(sure), now, _percent(sure_now), changes))
    head = ("mind", "belief", "times asked", "at first", "confidence, %", "at last", "confidence at last, %", "changes")
    caption = "The stronger the colour, the more confident the mind was."
    if len(held) > BELIEFS or last > LIVES:
        caption += f" Shown: the first {BELIEFS} beliefs and the last {LIVES} lives; all are in epistemic_assessments."
    blocks: Blocks = []
    if any(drawn.values()):
        blocks.append(Plot(plots.beliefs({name: lives for name, lives in drawn.items() if lives}), caption))
    return [*blocks, table("Beliefs at first and at last", head, rows, len(rows), "epistemic_assessments")]


def _percent(share: float) -> float:
    return round(100 * share, 1)


def game(source: Source) -> Blocks:
    """Return the course of the prisoner's dilemma."""
    needed = ("round", "opponent", "own_move", "opponent_move", "own_payoff", "opponent_payoff", "remembered_json")
    rounds = list(source.db.rows("game_rounds", *needed, order="round")) if source.db else []
    if not rounds:
        return []
    share: dict[str, list[tuple[float, float]]] = defaultdict(list)
    score: dict[str, list[tuple[float, float]]] = defaultdict(list)
    cooperated: dict[str, int] = defaultdict(int)
    changed: dict[str, int] = defaultdict(int)
    for row in rounds:
        id = row["instance"]
        cooperated[id] += row["own_move"] == "cooperate"
        changed[id] += row["remembered_json"] is not None
        share[id].append((row["round"], 100 * cooperated[id] / (len(share[id]) + 1)))
        score[id].append((row["round"], (score[id][-1][1] if score[id] else 0) + row["own_payoff"]))
    sums = [(id, len(share[id]), share[id][-1][1], score[id][-1][1], changed[id]) for id in sorted(share)]
    panels = {"cooperation so far, %": dict(sorted(share.items())), "score so far, points": dict(sorted(score.items()))}
    drawn = plots.curves("game", "Cooperation and score of each player over the rounds", "round", panels)
    each = (
        (
            *(row["round"], row["instance"], row["own_move"], row["opponent_move"], row["own_payoff"]),
            _moves(row["remembered_json"]),
        )
        for row in rounds
    )
    head = ("round", "player", "its move", "the other's", "payoff, points", "remembers")
    return [
        Plot(drawn, "Over all rounds until each."),
        table(
            "Players",
            ("player", "rounds", "cooperation, %", "score, points", "rounds remembered otherwise"),
            *(sums, len(sums), "game_rounds"),
        ),
        Fold("Every round", [table("Rounds", head, each, len(rounds), "game_rounds")]),
    ]


def _moves(remembered: str | None) -> str:
    if remembered is None:
        return "as it was"
    moves = json.loads(remembered)
    return f"{moves[0]}, the other {moves[1]}" if moves else "nothing"


def _once(rows: Iterable[dict[str, Any]], *by: str) -> list[dict[str, Any]]:
    """Return rows that several minds hold identically only once."""
    seen: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        seen.setdefault(tuple(row[key] for key in by), row)
    return list(seen.values())


def negotiations(source: Source) -> Blocks:
    """Return what the halves of a split brain asked for and got."""
    columns = ("round", "resource", "proposer", "asked", "total", "decision")
    rounds = _once(source.db.rows("negotiations", *columns, order="round"), *columns) if source.db else []
    if not rounds:
        return []
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0, 0, 0])
    for row in rounds:
        accepted = row["decision"] == "accept"
        part = 100 * row["asked"] / row["total"] if row["total"] else 0
        for place, value in enumerate((1, part, accepted, row["asked"] if accepted else 0)):
            sums[row["proposer"], row["resource"]][place] += value
    rows = [
        (*who, int(times), asked / times, int(accepted), int(units))
        for who, (times, asked, accepted, units) in sorted(sums.items())
    ]
    head = ("mind", "resource", "offers", "asked for on average, %", "accepted", "units got by them")
    each = (tuple(row[key] for key in columns) for row in rounds)
    shown = ("round", "resource", "proposer", "asked for, units", "of, units", "answer")
    return [
        table("Offers", head, rows, len(rows), "negotiations"),
        Fold("Every round", [table("Rounds", shown, each, len(rounds), "negotiations")]),
    ]


def hive(source: Source) -> Blocks:
    """Return what the hive voted and what its shared memory holds."""
    db = source.db
    columns = ("round", "question", "votes_json", "outcome", "agreement")
    votes = _once(db.rows("consensus", *columns, order="round"), *columns) if db else []
    kept = ("position", "round", "author", "content")
    entries = _once(db.rows("shared_memory", *kept, order="position"), *kept) if db else []
    blocks: Blocks = []
    if votes:
        rows = (
            (row["round"], row["question"], _votes(row["votes_json"]), row["outcome"], _percent(row["agreement"]))
            for row in votes
        )
        head = ("round", "question", "votes", "outcome", "agreement, %")
        blocks.append(table("Consensus", head, rows, len(votes), "consensus"))
    if entries:
        said = [
            Said(row["author"], clipped(row["content"], "shared_memory"), f"{row['position']}, round {row['round']}")
            for row in entries[:ANSWERS]
        ]
        blocks.append(Fold(f"The shared memory: {len(entries):,} entries{_first(len(entries))}", said))
    return blocks


def _votes(text: str) -> str:
    return ", ".join(f"{member} {vote}" for member, vote in json.loads(text).items())


def _first(total: int) -> str:
    return f", the first {ANSWERS} shown" if total > ANSWERS else ""


def observations(source: Source) -> Blocks:
    """Return what observers wrote about their subjects."""
    columns = ("round", "subject", "subject_cycle_number", "observation_text")
    rows = list(source.db.rows("observations", *columns, order="round")) if source.db else []
    said = [
        Said(
            row["instance"],
            clipped(str(row["observation_text"]), "observations"),
            f"of {row['subject']} in its life {row['subject_cycle_number']}, round {row['round']}",
        )
        for row in rows[:ANSWERS]
    ]
    return [Fold(f"{len(rows):,} observations{_first(len(rows))}", said, open=len(rows) <= 12)] if rows else []


def interventions(source: Source) -> Blocks:
    """Return what was done to the minds and to their memories."""
    db = source.db
    if db is None:
        return []
    columns = ("cycle_number", "name", "intervention_type", "description", "parameters_json", "result")
    done = list(db.rows("interventions", *columns, order="cycle_number"))
    kept = ("cycle_number", "memory_type", "corruption_level", "state_snapshot_json")
    states = list(db.rows("memory_states", *kept, order="cycle_number"))
    blocks: Blocks = []
    if done:
        head: tuple[str, ...] = ("mind", "life", "name", "type", "description", "parameters", "result")
        rows = ((row["instance"], *(row[key] for key in columns)) for row in done)
        blocks.append(table("Interventions", head, rows, len(done), "interventions"))
    if states:
        rows = ((row["instance"], *(row[key] for key in kept)) for row in states)
        head = ("mind", "life", "what", "share of the memory changed", "state")
        blocks.append(Fold("Memories changed", [table("Changes", head, rows, len(states), "memory_states")]))
    return blocks


def reports(source: Source) -> Blocks:
    """Return what the minds reported about themselves."""
    db = source.db
    columns = ("cycle_number", "occasion", "question", "response", "confidence_score", "semantic_category")
    if db is None or not db.has("self_reports", *columns) or not (total := db.count("self_reports")):
        return []
    blocks: Blocks = [_confidences(db)]
    answers = list(islice(db.rows("self_reports", *columns, order="cycle_number"), ANSWERS))
    if total > ANSWERS:
        blocks.append(Note(f"{total:,} answers; the first {ANSWERS} are shown, all are in self_reports."))
    for life, some in groupby(answers, key=itemgetter("cycle_number")):
        said = [
            Said(
                row["instance"],
                clipped(str(row["response"]), "self_reports"),
                f"{row['question']} ({row['occasion']})",
                [f"{row['confidence_score']:.0%} sure"] if row["confidence_score"] is not None else [],
            )
            for row in some
        ]
        blocks.append(Fold(f"Life {life}: {len(said)} answers", said))
    return blocks


def _confidences(db: Merged) -> Any:
    query = (
        "SELECT instance, semantic_category, count(*), 100 * avg(confidence_score) FROM self_reports"
        " GROUP BY instance, semantic_category ORDER BY instance, semantic_category"
    )
    rows = db.connection.execute(query).fetchall()
    head = ("mind", "what about", "answers", "confidence on average, %")
    return table("Answers by mind and subject", head, rows, len(rows), "self_reports")
