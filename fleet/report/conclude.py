"""What follows after the results are fetched: merged database, deaths, memory, report, and the closing summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract.collected import DATABASE, RAW_DATABASE
from contract.description import InstanceRef
from contract.events import Collected, Placed
from contract.statuses import BAD, ENDED, LOST
from fleet.record.run_folder import Run
from fleet.results.deaths import write_deaths
from fleet.results.memory_use import measure
from fleet.results.merge import merge
from fleet.results.replay_verdict import verdict
from fleet.results.summary import closing_summary, exit_log_faults, last_words, suppressed_lines


@dataclass(frozen=True)
class Conclusion:
    """The result of a collection. over: no instance of the run's plan is alive any more."""

    changed: bool
    statuses: Mapping[str, str]
    bad: Mapping[str, str]  # {instance: status and reason} of those that failed or were lost
    over: bool
    problems: Mapping[str, str]  # {instance: what is wrong with its database}
    memory: Mapping[str, Any]
    table: str
    warnings: Sequence[str]


def conclude(
    run: Run, refs: Sequence[InstanceRef], outcomes: Sequence[Mapping[str, Any]], *, check: bool = False
) -> Conclusion:
    """Bring the record up to date. outcomes: the result of collecting each of these instances."""
    # One that cannot be collected although its node answers has a status, and is not lost.
    statuses = {ref.id: str(outcome.get("status") or LOST) for ref, outcome in zip(refs, outcomes, strict=True)}
    left = {ref.id: "; ".join(outcome.get("faults", ())) for ref, outcome in zip(refs, outcomes, strict=True)}
    nodes = {ref.id: ref.node for ref in refs}
    # A user's own program need not have a database: only one that was fetched can be faulty.
    with_database = {
        id: node
        for id, node in nodes.items()
        if any((run.path / copy.name(id)).exists() for copy in (DATABASE, RAW_DATABASE))
    }
    merged = merge(run.path, with_database, run.run_id)
    died = write_deaths(run, nodes, statuses)
    figures = measure(run, nodes)
    changed = merged["changed"] or died or any(outcome.get("changed") for outcome in outcomes)
    if changed:
        run.append(Collected(statuses, merged["rows"], merged["problems"], figures))
    reported, warnings = _report(run, check)
    reasons = last_words(run.path, [id for id, status in statuses.items() if status in BAD])
    suppressed = suppressed_lines(run.path, statuses)
    shown = {**suppressed, **exit_log_faults(run.path, statuses), **reasons, **merged["problems"]}
    shown |= {id: "; ".join(filter(None, (text, shown.get(id)))) for id, text in left.items() if text}
    summary = closing_summary(run.path, nodes, statuses, shown, figures)
    return Conclusion(
        changed=changed or reported,
        statuses=statuses,
        bad={
            ref.id: ": ".join(filter(None, (statuses[ref.id], reasons.get(ref.id) or left[ref.id])))
            for ref, outcome in zip(refs, outcomes, strict=True)
            if statuses[ref.id] in BAD or outcome.get("failed")
        },
        over=set(run.plan.get("assignments", {})) <= {id for id, status in statuses.items() if status in ENDED},
        problems=merged["problems"],
        memory=figures,
        table="\n\n".join(filter(None, (summary, verdict(run)))),
        warnings=warnings,
    )


def collected_last(run: Run) -> tuple[list[InstanceRef], list[Mapping[str, Any]]]:
    """Return what `conclude` takes, for a run that somebody else has collected: as its record says."""
    statuses: dict[str, str] = {}
    nodes: dict[str, str] = {}
    for _, event in run.events():
        match event:
            case Collected():
                statuses |= event.statuses
            case Placed():
                nodes = dict(event.assignments)
    refs = [InstanceRef(run.run_id, id, node, "", "") for id, node in nodes.items()]
    return refs, [{"status": statuses.get(ref.id, LOST)} for ref in refs]


def _report(run: Run, check: bool) -> tuple[bool, list[str]]:
    """Return whether the report changed, and a warning if it was not written: the results are complete without it."""
    from fleet.report import write  # imported here: the plotting library loads slowly, and no other step needs it

    try:
        return write(run, check=check)[1], []
    except Exception as error:
        again = f"ansible-playbook playbooks/report.yml -e run={run.run_id}"
        return False, [f"{run.path}: report.html was not written: {error}; `{again}` tries again"]
