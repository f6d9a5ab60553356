"""The connection to one node, seen from the controller: what is no report ends it, and it is opened again."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from contract.attention import Renewal, Report
from contract.description import InstanceRef
from contract.leases import Lease
from contract.node_state import NodeState
from fleet.control import node_link
from fleet.control.loop_file import LoopFile, NodeToAttend
from fleet.control.node_link import NodeLink

GOOD = json.dumps(Report("boot", 1.0, NodeState("HEALTHY")).to_json())


def link(program: str, heard: list[Report]) -> NodeLink:
    """A link to a node that runs this Python program in place of the node's."""
    node = NodeToAttend((sys.executable, "-c", program), "/w", "jar", 90.0, 95.0)
    file = LoopFile("c", "/nowhere", (), {"n": node}, 0.5, 300.0, 50.0, "me", 7)
    return NodeLink("n", file, lambda name, report: heard.append(report))


def listen(one: NodeLink, until: Callable[[], object]) -> None:
    async def opened() -> None:
        task = asyncio.create_task(one.keep_open())
        async with asyncio.timeout(30):
            while not until():
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(opened())


def test_it_opens_with_a_call_hears_reports_and_sends_renewals(tmp_path: Path) -> None:
    got = tmp_path / "got"
    program = f"""
import sys
lines = open({str(got)!r}, "w")
for line in sys.stdin:
    lines.write(line)
    lines.flush()
    print({GOOD!r}, flush=True)
"""
    heard: list[Report] = []
    one = link(program, heard)
    ref = InstanceRef("x_20261123T141500Z_aaaa", "a", "n", "/w", "jar")
    sent = False

    def both() -> bool:
        nonlocal sent
        if heard and not sent:
            one.renew(Renewal(ref, Lease("boot", 9.0, 2)))
            sent = True
        return len(heard) == 2

    listen(one, both)
    call, renewal = map(json.loads, got.read_text().splitlines())
    assert call["verb"] == "attend"
    assert (call["given"]["controller"], call["given"]["term"], call["given"]["takeover"]) == ("me", 7, False)
    assert renewal["lease"] == {"boot": "boot", "until": 9.0, "epoch": 2}


@pytest.mark.parametrize(
    ("printed", "problem"),
    [
        ("'x'", "not JSON"),
        ("'[' * 100000", "not JSON"),
        ("'{}'", "boot: missing"),
        (repr(GOOD.replace("1.0", "1e999")), "clock: expected a number"),
        (repr(GOOD.replace("HEALTHY", "GREAT")), "status: 'GREAT' is none of"),
        (f"'x' * {2**20}", "more than"),
    ],
)
def test_what_is_no_report_ends_the_connection(
    printed: str, problem: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(node_link, "LIMIT", 2**18)
    heard: list[Report] = []
    one = link(f"import time; print({printed}, flush=True); time.sleep(60)", heard)
    with caplog.at_level(logging.WARNING):
        listen(one, lambda: one.problem)
    assert problem in one.problem
    assert heard == []


def test_the_end_of_a_connection_is_explained_in_words_that_harm_no_terminal() -> None:
    one = link("import sys; sys.exit('\\x1b[31mPermission denied')", [])
    listen(one, lambda: one.problem)
    assert one.problem == "\\x1b[31mPermission denied"


def test_a_node_that_says_nothing_any_more_is_left_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(node_link, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(node_link, "AGAIN_SECONDS", 0.05)
    count = tmp_path / "count"
    heard: list[Report] = []
    program = f"import time; open({str(count)!r}, 'a').write('x'); print({GOOD!r}, flush=True); time.sleep(60)"
    listen(link(program, heard), lambda: count.exists() and len(count.read_text()) >= 3)
    assert len(heard) >= 2


def test_a_report_that_closes_says_why() -> None:
    closing = json.dumps(replace(Report("boot", 1.0, NodeState("HEALTHY")), closing="another one").to_json())
    one = link(f"print({closing!r})", [])
    listen(one, lambda: one.problem)
    assert one.problem == "another one"
