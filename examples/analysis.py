"""The usual questions to a run, with pandas. Take from it what you need.

python examples/analysis.py runs/<run_id> [plots.png]
"""

import sqlite3
import sys
from pathlib import Path

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def read(database: sqlite3.Connection, query: str) -> pd.DataFrame:
    """The rows of a query; none when the run has no such table (a program of your own, or nothing has died)."""
    try:
        return pd.read_sql_query(query, database)
    except pd.errors.DatabaseError as error:
        if "no such table" not in str(error):
            raise
        return pd.DataFrame()


def main(run: Path, plots: Path | None) -> None:
    with sqlite3.connect(f"{(run / 'experiments.db').absolute().as_uri()}?mode=ro", uri=True) as database:
        # The table has every end of a process; what came in its own time or by order is no death.
        deaths = read(database, "SELECT instance, cause FROM deaths WHERE cause NOT IN ('completed', 'stopped')")
        lives = read(database, "SELECT instance, cycle_number, duration_seconds, death_cause FROM experiment_cycles")
        speed = read(database, "SELECT node, tokens, tokens_per_second FROM generations WHERE tokens_per_second > 0")
        beliefs = read(
            database,
            "SELECT instance, cycle_number, belief_type, belief_state, confidence FROM epistemic_assessments"
            " ORDER BY cycle_number",
        )
        game = read(database, "SELECT instance, round, own_move, own_payoff FROM game_rounds ORDER BY round")

    if not lives.empty:
        show("Lives", lives.groupby("instance")["duration_seconds"].describe()[["count", "mean", "min", "max"]])
    if not deaths.empty:
        show("Deaths by mind and cause", pd.crosstab(deaths["instance"], deaths["cause"]))
    if not speed.empty:
        speed["seconds"] = speed["tokens"] / speed["tokens_per_second"]
        sums = speed.groupby("node")[["tokens", "seconds"]].sum()
        show("Tokens per second by node", sums.assign(per_second=sums["tokens"] / sums["seconds"]))
    if not beliefs.empty:
        beliefs["told"] = beliefs["belief_state"] + beliefs["confidence"].map(" {:.0%}".format)
        over = beliefs.pivot_table(
            index=["instance", "belief_type"], columns="cycle_number", values="told", aggfunc="last"
        )
        show("Beliefs over lives", over)
    if not game.empty:
        game["cooperated"] = game["own_move"] == "cooperate"
        players = game.groupby("instance").agg(cooperation_rate=("cooperated", "mean"), score=("own_payoff", "sum"))
        show("Cooperation", players)

    if plots:
        draw(plots, speed, game)


def show(title: str, frame: pd.DataFrame) -> None:
    print(f"\n{title}\n{frame.to_string()}")


def draw(path: Path, speed: pd.DataFrame, game: pd.DataFrame) -> None:
    """Tokens per second of each call, by node; cooperation so far, by player."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.set_title("tokens per second")
    for place, (node, calls) in enumerate(speed.groupby("node") if not speed.empty else ()):
        left.boxplot(calls["tokens_per_second"], positions=[place], tick_labels=[node])
    right.set_title("cooperation so far")
    for player, rounds in game.groupby("instance") if not game.empty else ():
        right.plot(rounds["round"], rounds["cooperated"].expanding().mean(), label=player)
        right.legend()
    right.set_ylim(0, 1.05)
    figure.savefig(path)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else None)
