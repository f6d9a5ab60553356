"""The sections of a report, each made independently from a run's record: an error in one does not affect the others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract.events import (
    Event,
    HostUnreachable,
    InstanceFault,
    LaunchFailed,
    NodeLost,
    NodeStatusChanged,
    Recovered,
    Resumed,
    TaskFailed,
)
from fleet.base.errors import MergeError
from fleet.record.checkpoints import goes_on
from fleet.record.run_folder import Run
from fleet.report import minds
from fleet.report.blocks import Facts, Figures, Fold, Note, Page, Plot, Section, Text, table
from fleet.report.isolation import isolation
from fleet.report.plots import Death, Life, sizes, timeline
from fleet.report.source import Source, clock, mapping, seconds
from fleet.report.talk import talk
from fleet.results.merged_database import DATABASE, deaths_of, opened
from placement import BadInput, Plan
from placement.adapters.experiment import parse_document

TROUBLE = (TaskFailed, HostUnreachable, LaunchFailed, InstanceFault, NodeLost, NodeStatusChanged)
Blocks = list[Any]


def page(run: Run) -> Page:
    """Return the page with every section that has content."""
    with ExitStack() as stack:
        missing = ""
        try:
            db = stack.enter_context(opened(run.path))
        except MergeError as error:
            db, missing = None, str(error)
        source = Source(run, db)
        if missing and (run.path / DATABASE).exists():
            source.faults.append(missing)
        document = experiment(source)
        sections = [_section(source, *part) for part in PARTS]
        name, description = str(document.get("name") or run.run_id), str(document.get("description") or "")
        return Page(run.run_id, name, description, [section for section in sections if section.blocks])


def _section(source: Source, key: str, title: str, make: Callable[[Source], Blocks]) -> Section:
    """Return a section, or a section that states why it cannot be shown.

    Every exception is caught: a user's own program or a damaged file may contain anything.
    """
    try:
        return Section(key, title, make(source))
    except Exception as error:
        return Section(key, title, [Note(f"This part cannot be shown: {type(error).__name__}: {error}", bad=True)])


def experiment(source: Source) -> dict[str, Any]:
    """Return the experiment's document as it was run; empty if it cannot be read."""
    raw = source.manifest.get("experiment")
    if isinstance(raw, str) and "\n" in raw:
        path = Path(str(source.manifest.get("experiment_file") or "experiment.yml"))
        try:
            raw = parse_document(raw, path)[0]
        except BadInput:  # its text is shown unparsed
            raw = None
    return dict(mapping(raw if isinstance(raw, dict) else {"name": raw}))


# what was run


def _overview(source: Source) -> Blocks:
    db, statuses = source.db, source.collected[1].statuses if source.collected else {}
    blocks: Blocks = []
    if not source.collected:
        blocks.append(Note("Nothing has been collected of this run: what follows is what the controller knows of it."))
    figures: dict[str, Any] = {"minds": len(source.nodes), "nodes": len(set(source.nodes.values()))}
    if db:
        names = {"experiment_cycles": "lives", "messages": "messages", "self_reports": "self-reports"}
        figures |= {"deaths": len(deaths_of(db))} if db.has("experiment_cycles") or db.has("deaths") else {}
        figures |= {name: count for each, name in names.items() if (count := db.count(each))}
        if db.has("generations", "tokens"):
            figures["tokens"] = db.connection.execute("SELECT coalesce(sum(tokens), 0) FROM generations").fetchone()[0]
    blocks.append(Figures(figures))
    if statuses:
        counts = Counter(map(str, statuses.values()))
        bad = any(status in counts for status in ("FAILED", "LOST"))
        blocks.append(Note("; ".join(f"{number} {status}" for status, number in sorted(counts.items())), bad=bad))
    return blocks


def _trouble(source: Source) -> Blocks:
    blocks: Blocks = [Note(fault, bad=True) for fault in source.faults]
    problems = source.collected[1].problems if source.collected else {}
    blocks += [Note(f"database of {id}: {problem}", bad=True) for id, problem in problems.items()]
    happened = source.happened(*TROUBLE)
    if happened:
        rows = ((clock(time), event.kind.replace("_", " "), *_where_and_why(event)) for time, event in happened)
        head = ("time", "what", "where", "task or status", "why")
        blocks.append(table("What went wrong", head, rows, len(happened), "events.jsonl"))
    return blocks


def _where_and_why(event: Event) -> tuple[str, str, str]:
    """Return (where, task or status, why) for an event of TROUBLE."""
    match event:
        case TaskFailed() | HostUnreachable():
            return event.host, event.task, event.reason
        case LaunchFailed():
            return event.instance, "", event.reason
        case InstanceFault():
            return event.instance, "", event.fault
        case NodeLost():
            return event.node, "", event.reason
        case NodeStatusChanged():
            return event.node, event.status, "; ".join(event.reasons)
    return "", "", ""


def _run(source: Source) -> Blocks:
    manifest, document = source.manifest, experiment(source)
    workload, code = mapping(document.get("workload")), mapping(manifest.get("code"))
    design = mapping(manifest.get("design"))
    command = code.get("command") or "the built-in workload"
    blocks: Blocks = [
        Facts(
            {
                "experiment": f"{document.get('name') or '-'} ({manifest.get('experiment_file') or 'no file'})",
                "mode": workload.get("mode"),
                "question": workload.get("research_question"),
                "created": clock(manifest.get("created_at")),
                "collected": clock(source.collected[0] if source.collected else None),
                "replay of": manifest.get("replay_of"),
                "record": "signed" if source.is_signed else "not signed",
                "code": f"{code.get('hash', '-')} from {code.get('source', '-')} {code.get('commit') or ''}".rstrip(),
                "command": " ".join(map(str, command)) if isinstance(command, list) else str(command),
                "seed of the placement": design.get("seed"),
                "versions": ", ".join(
                    f"{name} {version}" for name, version in mapping(manifest.get("versions")).items()
                ),
            }
        )
    ]
    started, models = mapping(manifest.get("instances")), mapping(manifest.get("models"))
    builds = mapping(manifest.get("llama_cpp"))
    rows = []
    for id, node in source.nodes.items():
        model, launched = mapping(models.get(id)), mapping(started.get(id))
        sha256 = str(model.get("sha256") or "")
        rows.append((id, node, launched.get("seed"), model.get("name"), sha256, builds.get(node)))
    head = ("mind", "node", "seed", "model", "sha256 of the model", "build of llama.cpp")
    blocks.append(table("The minds", head, [[*row] for row in _seeds_as_text(rows)], len(rows), "manifest.json"))
    resumed = [(clock(time), event) for time, event in source.happened(Resumed) if isinstance(event, Resumed)]
    if resumed:
        how = goes_on(source.events)
        epochs = [
            (
                *(time, one.instance, one.epoch, one.node, one.checkpoint or "the beginning", sum(one.left.values())),
                how.get((one.instance, one.epoch), "-"),
            )
            for time, one in resumed
        ]
        head_of_epochs = ("time", "mind", "epoch", "node", "from the checkpoint", "rows left behind", "goes on")
        blocks.append(table("Resumed", head_of_epochs, epochs, len(epochs), "events.jsonl"))
    came = [(clock(time), event) for time, event in source.happened(Recovered) if isinstance(event, Recovered)]
    if came:
        late = [(time, one.instance, one.epoch, one.node, sum(one.rows.values())) for time, one in came]
        head_of_late = ("time", "mind", "epoch", "node", "rows in no checkpoint")
        blocks.append(table("Came home late", head_of_late, late, len(late), "events.jsonl"))
    raw = manifest.get("experiment")
    if isinstance(raw, str) and raw:
        blocks.append(Fold("The experiment's file", [Text(raw)]))
    return blocks


def _seeds_as_text(rows: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows with each seed as text: it is an identifier, so its digits are not grouped."""
    for row in rows:
        yield (*row[:2], None if row[2] is None else str(row[2]), *row[3:])


# where, and why there


def _placement(source: Source) -> Blocks:
    if not source.plan:
        return []
    if "instances" not in source.plan:  # for a run whose record was recovered from the nodes
        rows = source.nodes.items()
        return [table("Where the minds were", ("mind", "node"), rows, len(rows), "plan.json")]
    plan = Plan.from_json(source.plan)
    parts = list(
        dict.fromkeys(part for one in plan.instances.values() for part in one.nodes[one.node].components or {})
    )
    chosen = [
        (id, one.node, one.score, *((one.nodes[one.node].components or {}).get(part) for part in parts))
        for id, one in plan.instances.items()
    ]
    others = [
        (id, node, verdict.score, "; ".join(verdict.rejected) or _against(verdict.score, one.score))
        for id, one in plan.instances.items()
        for node, verdict in one.nodes.items()
        if node != one.node
    ]
    uses = [
        (
            *(name, use.status, f"{use.instances} of {use.max_instances}"),
            *(use.allocated_ram_gb, max(0.0, use.ram_gb - use.reserved_ram_gb), ", ".join(use.placed)),
        )
        for name, use in plan.nodes.items()
    ]
    head = ("mind", "node", "score", *(part.replace("_", " ") for part in parts))
    spent = ("node", "status", "slots taken", "RAM allocated, GB", "RAM for minds, GB", "minds of this run")
    return [
        Note(f"{plan.strategy}: score {plan.score:g}, {plan.proof()}."),
        table("Where each mind was put, and the points for it", head, chosen, len(chosen), "plan.json"),
        table("Why not there", ("mind", "node", "score", "because"), others, len(others), "plan.json"),
        Fold("The nodes", [table("Nodes by this plan", spent, uses, len(uses), "plan.json")]),
    ]


def _against(score: float | None, taken: float) -> str:
    if score is None:
        return ""
    if score == taken:
        return "as good; a tie"
    return f"{abs(score - taken):g} points {'less' if score < taken else 'more, but the plan as a whole scores less'}"


# lives, deaths and memory


def _lives(source: Source) -> Blocks:
    db = source.db
    if db is None:
        return []
    died = deaths_of(db)
    lived = list(db.rows("experiment_cycles", "cycle_number", "started_at", "ended_at", order="started_at"))
    times = [at for row in (*lived, *died) for key in ("started_at", "ended_at") if (at := seconds(row[key]))]
    if not times:
        return [Note("No mind has died.")] if lived else []
    first, last = min(times), max(times)
    rows = {f"{id} on {node}": None for id, node in sorted({(row["instance"], row["node"]) for row in (*lived, *died)})}
    lives = [
        Life(_row(life), began - first, (seconds(life["ended_at"]) or last) - first, int(life["cycle_number"] or 0))
        for life in lived
        if (began := seconds(life["started_at"])) is not None
    ]
    marks = [
        Death(_row(death), at - first, str(death["cause"]))
        for death in died
        if (at := seconds(death["ended_at"])) is not None
    ]
    causes = Counter(str(death["cause"]) for death in died)
    by_cause = ", ".join(f"{number} by {cause.replace('_', ' ')}" for cause, number in causes.most_common())
    blocks: Blocks = [
        Note(f"{len(lives):,} lives, {len(died):,} deaths{f': {by_cause}' if by_cause else ''}."),
        Plot(
            timeline(list(rows), lives, marks),
            f"Bars: lives, by turns in two shades. Marks: deaths. 0 is {_at(first)}.",
        ),
    ]
    if died:
        by = Counter((death["instance"], str(death["node"]), str(death["cause"])) for death in died)
        counts = [(*who, number) for who, number in sorted(by.items())]
        blocks.append(
            table("Deaths by mind and cause", ("mind", "node", "cause", "deaths"), counts, len(counts), "deaths")
        )
        each = (
            (
                *(death["instance"], death["node"], death["unit"], death["cycle_number"], clock(death["ended_at"])),
                *(death["lived_seconds"], str(death["cause"]), death["detail"]),
                *(death["memory_peak_mb"], death["memory_limit_mb"]),
            )
            for death in died
        )
        head = (
            "mind",
            "node",
            "process",
            "life",
            "died at",
            "lived, s",
            "cause",
            "in words",
            "peak, MiB",
            "limit, MiB",
        )
        blocks.append(Fold("Every death", [table("Deaths, oldest first", head, each, len(died), "deaths")]))
    return blocks


def _row(row: dict[str, Any]) -> str:
    return f"{row['instance']} on {row['node']}"


def _at(first: float) -> str:
    return f"{datetime.fromtimestamp(first, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _memory(source: Source) -> Blocks:
    figures = {str(id): mapping(one) for id, one in source.memory.items()}
    if not figures:
        return []
    looks = {"limit": "ram_gb", "predicted": "predicted_gb", "measured, resident": "resident_gb"}
    looks["measured, charged"] = "charged_gb"
    plotted = {
        f"{id} on {source.nodes.get(id, '-')}": {name: _float(one.get(key)) for name, key in looks.items()}
        for id, one in figures.items()
    }
    rows = [
        (
            *(id, source.nodes.get(id), one.get("ram_gb"), "by the file" if one.get("declared") else "by the model"),
            *(one.get(key) for key in ("predicted_gb", "resident_gb", "charged_gb", "ratio")),
        )
        for id, one in figures.items()
    ]
    head = ("mind", "node", "limit, GB", "set", "predicted, GB", "resident, GB", "charged, GB", "resident / predicted")
    blocks: Blocks = []
    if any(value for row in plotted.values() for value in row.values()):
        shown = dict(list(plotted.items())[:60])
        caption = "Resident: the highest that the processes held themselves. Charged: with the page cache."
        blocks.append(
            Plot(sizes("memory", "Memory of each mind, predicted and measured", "GB (2^30 bytes)", shown), caption)
        )
    blocks.append(table("Memory predicted and measured; GB is 2^30 bytes", head, rows, len(rows), "memory.json"))
    return blocks


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


# which data is where


def _data(source: Source) -> Blocks:
    blocks: Blocks = []
    if source.db:
        counts: dict[str, dict[str, int]] = defaultdict(dict)
        for name in source.db.tables:
            if source.db.has(name):
                for row in source.db.connection.execute(_COUNT.format(name.replace('"', '""'))):
                    counts[name][str(row[0])] = int(row[1])
        rows = [
            (name, sum(each.values()), ", ".join(f"{id} {number:,}" for id, number in each.items()))
            for name, each in sorted(counts.items())
            if each
        ]
        head = ("table", "rows", "of which")
        blocks.append(table("Tables of experiments.db that have rows", head, rows, len(rows), "sqlite_schema"))
    files = source.files
    blocks.append(table("The record", ("file", "what"), files.items(), len(files), "this folder"))
    blocks.append(
        Note(
            f"All rows in a browser: make datasette RUN={source.run.run_id}. As Parquet or CSV:"
            f" ansible-playbook playbooks/export.yml -e run={source.run.run_id}"
        )
    )
    return blocks


_COUNT = 'SELECT instance, count(*) FROM "{}" GROUP BY instance ORDER BY instance'

PARTS: tuple[tuple[str, str, Callable[[Source], Blocks]], ...] = (
    ("overview", "At a glance", _overview),
    ("trouble", "What went wrong", _trouble),
    ("run", "What was run", _run),
    ("placement", "Placement, and why", _placement),
    ("isolation", "Isolation", isolation),
    ("lives", "Lives and deaths", _lives),
    ("speed", "Tokens per second", minds.speed),
    ("memory", "Memory predicted and measured", _memory),
    ("beliefs", "Beliefs over lives", minds.beliefs),
    ("game", "The game", minds.game),
    ("negotiations", "Negotiations", minds.negotiations),
    ("hive", "The hive", minds.hive),
    ("observations", "Observations", minds.observations),
    ("interventions", "Interventions", minds.interventions),
    ("reports", "Self-reports", minds.reports),
    ("transcript", "Transcript", talk),
    ("data", "Where everything lies", _data),
)
