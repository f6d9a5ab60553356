"""The summary that a person is shown after the results were fetched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contract import collected, names
from contract.exits import read_exits
from fleet.base.text_table import table
from fleet.results.deaths import read_deaths
from fleet.results.merge import summary
from placement.adapters.gguf_memory import figure

DEATHS_SHOWN = 10


def last_exits(run: Path, instances: Iterable[str]) -> dict[str, str]:
    """Return how each instance's workload ended the last time, by its exit log: {"a": "ended with exit code 78"}."""
    exits = {id: read_exits(run / collected.EXIT_LOG.name(id)).of(names.WORKLOAD) for id in instances}
    return {id: own[-1].words for id, own in exits.items() if own}


def exit_log_faults(run: Path, instances: Iterable[str]) -> dict[str, str]:
    """Return the first thing that is nonsense in each instance's fetched exit log, for those that have one."""
    faults = {id: read_exits(run / collected.EXIT_LOG.name(id)).faults for id in instances}
    return {id: found[0] for id, found in faults.items() if found}


# journald's own line about a unit that printed more than it takes: 2,000 lines in 10 seconds, more with much room.
SUPPRESSED = re.compile(rb"\S+ \S+ systemd-journald\[\d+\]: Suppressed (\d+) messages from jarfleet-\S+\n")


def suppressed_lines(run: Path, instances: Iterable[str]) -> dict[str, str]:
    """Return how many lines of each instance's log journald did not keep, for those of which it dropped any."""
    paths = {id: run / collected.LOG.name(id) for id in instances}
    counts = {id: _suppressed(path) for id, path in paths.items() if path.is_file()}
    return {
        id: f"{count} lines of its log were suppressed: it printed too many at once"
        for id, count in counts.items()
        if count
    }


def _suppressed(log: Path) -> int:
    with log.open("rb") as file:
        return sum(int(match[1]) for line in file if b"Suppressed" in line and (match := SUPPRESSED.fullmatch(line)))


# A line of journalctl's short-iso-precise: time, host, identifier[pid]: what was printed.
JOURNAL_LINE = re.compile(r"\S+ \S+ (?P<identifier>[^\[:\s]+)(?:\[\d+\])?: (?P<printed>.*)")
NOT_THE_WORKLOAD = ("systemd", "llama-server")
WORDS_SHOWN = 200  # characters
TAIL_BYTES = 64 * 1024  # of a log, read from its end


def last_words(run: Path, instances: Iterable[str]) -> dict[str, str]:
    """Return why each of these instances failed: how its workload ended, and the last line that it printed.

    Example: {"a": "ended with exit code 1: ModuleNotFoundError: No module named 'torch'"}
    """
    found = last_exits(run, instances)
    return {id: ": ".join(filter(None, (words, _last_line(run, id)))) for id, words in found.items()}


def _last_line(run: Path, id: str) -> str:
    """Return the last line of an instance's log that its workload printed, without control characters."""
    path = run / collected.LOG.name(id)
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    for line in reversed(lines):
        match = JOURNAL_LINE.fullmatch(line)
        if match and match["identifier"] not in NOT_THE_WORKLOAD and match["printed"].strip():
            printed = "".join(char if char.isprintable() else " " for char in match["printed"]).strip()
            return printed if len(printed) <= WORDS_SHOWN else f"{printed[: WORDS_SHOWN - 3]}..."
    return ""


def closing_summary(
    run: Path,
    nodes: Mapping[str, str],
    statuses: Mapping[str, str],
    problems: Mapping[str, str],
    memory: Mapping[str, Mapping[str, Any]],
) -> str:
    """Return what happened to a run and where its results are. `memory` is the result of memory_use.measure()."""
    counts = summary(run)
    died = read_deaths(run)
    rows = [
        (
            id,
            node,
            statuses.get(id, "-"),
            counts.get("messages", {}).get(id, 0),
            counts.get("self_reports", {}).get(id, 0),
            sum(death["instance"] == id for death in died),
            *(_gb(memory.get(id, {}).get(key)) for key in ("ram_gb", "predicted_gb", "resident_gb")),
            problems.get(id, "-"),
        )
        for id, node in nodes.items()
    ]
    head = ("instance", "node", "status", "messages", "self-reports", "deaths", "GB", "predicted", "peak", "problem")
    lies = [
        ("report", "report.html"),
        ("plan", "plan.json"),
        ("manifest", "manifest.json"),
        ("events", "events.jsonl"),
        ("logs", "logs/"),
        ("databases", "db/"),
        ("raw files", "raw/"),
        ("files", "files/"),
        ("merged", "experiments.db"),
        ("memory", "memory.json"),
    ]
    return "\n".join(
        [
            table(head, rows),
            "",
            *_deaths_table(died),
            f"results of {run.name}:",
            *(f"  {what:10}{run / where}" for what, where in lies if (run / where).exists()),
        ]
    )


def _deaths_table(died: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one line per death, for many only the newest, followed by an empty line."""
    if not died:
        return []
    rows = [
        (
            f"  {death['instance']}",
            death["unit"],
            death["life"],
            death["detail"],
            "-" if death["lived_seconds"] is None else f"{death['lived_seconds']:.1f} s",
            *("-" if death[of] is None else f"{death[of]:.0f} MB" for of in ("memory_peak_mb", "memory_limit_mb")),
        )
        for death in died[-DEATHS_SHOWN:]
    ]
    more = f"; the last {DEATHS_SHOWN}" if len(died) > DEATHS_SHOWN else ""
    shown = table(("  instance", "unit", "life", "died", "after", "peak", "limit"), rows)
    return [f"deaths: {len(died)}{more}", *shown.splitlines(), ""]


def _gb(size: float | None) -> str:
    return "-" if size is None else figure(size)
