"""The report's section on isolation: what each instance's receipt says that it could and could not do on its node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from contract.events import Received
from contract.names import split_host_name
from contract.promises import PROMISES
from contract.receipt import Receipt
from fleet.report.blocks import Fold, Note, table
from fleet.report.source import Source


def isolation(source: Source) -> list[Any]:
    """Return the receipts; nothing for a run that has none."""
    receipts = [
        (*split_host_name(one.event.instance), one.event.receipt)
        for one in source.happened(Received)
        if isinstance(one.event, Received)
    ]
    if not receipts:
        return []
    blocks: list[Any] = [
        Note(f"{id} on {node}: this node does not promise that {PROMISES[name].words}", bad=PROMISES[name].needed)
        for id, node, receipt in receipts
        for name in receipt.lacking
        if name in PROMISES
    ]
    rows = [
        (id, node, f"{len(receipt.results) - len(receipt.broken)} of {len(receipt.results)}", receipt.systemd)
        for id, node, receipt in receipts
    ]
    head = ("instance", "node", "attempts that went as they must", "systemd")
    blocks.append(table("Tried from inside each instance before its code ran", head, rows, len(rows), "events.jsonl"))
    attempts = [row for id, _, receipt in receipts for row in _rows(id, receipt)]
    each = ("instance", "tried to", "could", "as it must be", "detail")
    return [*blocks, Fold("Each attempt", [table("Attempts", each, attempts, len(attempts), "events.jsonl")])]


def _rows(id: str, receipt: Receipt) -> Iterator[tuple[Any, ...]]:
    for one in receipt.results:
        yield id, one.name, one.succeeded, one.kept, one.detail
