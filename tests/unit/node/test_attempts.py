"""What an instance's receipt tries, tried here: each kind both ways."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from contract.receipt import Attempt, Attempts, Receipt
from fleet.artifacts.node_program import node_program
from node import attempts


def tried(kind: str, *target: str, expected: bool | None = False) -> tuple[bool, bool]:
    (result,) = attempts.results(Attempts((Attempt("it", kind, target, expected),)))
    return result.succeeded, result.kept


def test_each_kind_of_attempt_both_ways(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert tried("connect", "127.0.0.1", port) == (True, False)
    assert tried("connect", "127.0.0.1", port) == (False, True)
    assert tried("create", str(tmp_path), expected=True) == (True, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"], "and leaves nothing"
    assert tried("create", str(tmp_path / "none")) == (False, True)
    assert tried("exists", str(tmp_path)) == (True, False)
    assert tried("exists", str(tmp_path / "none")) == (False, True)
    assert tried("list", str(tmp_path)) == (True, False)
    assert tried("list", str(tmp_path), "mine") == (False, True)
    assert tried("read", str(tmp_path / "mine")) == (True, False)
    assert tried("write", str(tmp_path / "mine")) == (True, False)
    assert tried("write", str(tmp_path / "none")) == (False, True)
    assert tried("run", "/bin/true") == (True, False)
    assert tried("run", "/bin/false") == (False, True)
    assert tried("run", "/nowhere") == (False, True)
    assert tried("exists", str(tmp_path), expected=None) == (True, True), "as the experiment asked"


def test_what_a_node_does_not_promise_breaks_nothing(tmp_path: Path) -> None:
    attempt = Attempt("it", "exists", (str(tmp_path),), False, "private_processes")
    for lacking, kept in (((), False), (("private_processes",), True), (("cpu_limit",), False)):
        (result,) = attempts.results(Attempts((attempt,), lacking))
        assert result.kept is kept


@pytest.mark.parametrize("expected", [True, False])
def test_the_program_reports_and_says_by_its_status_whether_all_is_well(tmp_path: Path, expected: bool) -> None:
    program = node_program(tmp_path).path
    assert zipfile.is_zipfile(program)
    asked = Attempts((Attempt("run", "run", ("/bin/true",), expected),))
    done = subprocess.run(
        [sys.executable, "-I", program, "attempt"], input=json.dumps(asked.to_json()), capture_output=True, text=True
    )
    receipt = Receipt.from_json(json.loads(done.stdout), "it")
    assert (done.returncode, bool(receipt.broken)) == ((0, False) if expected else (1, True))
