"""Why an instance failed, in one line: how it ended, and what it printed last."""

import json
from pathlib import Path

import pytest

from fleet.record.run_folder import Run
from fleet.results.summary import exit_log_faults, last_words, suppressed_lines

RUN = "x_20261123T141500Z_3f2a"
AT = "2026-11-26T10:00:00.000001+0000 rpi1"
TRACEBACK = f"""\
{AT} systemd[1]: Started jarfleet-{RUN}-a-workload.service.
{AT} python3[41]: Traceback (most recent call last):
{AT} python3[41]:   File "main.py", line 1, in <module>
{AT} python3[41]: ModuleNotFoundError: No module named 'torch'
{AT} llama-server[40]: srv  update_slots: all slots are idle
{AT} systemd[1]: jarfleet-{RUN}-a-workload.service: Main process exited, code=exited, status=1/FAILURE
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, RUN, {}, {})


def leave(run: Run, log: str) -> None:
    exit = {"unit": "workload", "cause": "exit", "code": "exited", "status": "1"}
    (run.path / "logs" / "a.exits.jsonl").write_text(json.dumps(exit) + "\n")
    (run.path / "logs" / "a.log").write_text(log)


def test_the_last_line_of_the_workload_is_the_reason(run: Run) -> None:
    leave(run, TRACEBACK)
    assert last_words(run.path, ["a", "b"]) == {
        "a": "ended with exit code 1: ModuleNotFoundError: No module named 'torch'"
    }


def test_without_a_line_of_its_own_the_exit_alone_is_the_reason(run: Run) -> None:
    leave(run, TRACEBACK.splitlines()[0] + "\n-- Boot 1234 --\n")
    assert last_words(run.path, ["a"]) == {"a": "ended with exit code 1"}


def test_what_it_printed_cannot_write_to_the_terminal_and_is_cut(run: Run) -> None:
    leave(run, f"{AT} python3[41]: \x1b]0;title\x07{'x' * 500}\n")
    (shown,) = last_words(run.path, ["a"]).values()
    assert shown.isprintable()
    assert len(shown) < 240


def test_of_a_long_log_the_end_is_read(run: Run) -> None:
    leave(run, f"{AT} python3[41]: early\n" * 50_000 + f"{AT} python3[41]: late\n")
    assert last_words(run.path, ["a"])["a"].endswith(": late")


def test_the_first_nonsense_of_an_exit_log_is_named(run: Run) -> None:
    (run.path / "logs" / "a.exits.jsonl").write_text('["workload"]\n{"unit": 3}\n')
    assert list(exit_log_faults(run.path, ["a", "b"])) == ["a"]
    assert exit_log_faults(run.path, ["a"])["a"].startswith("a.exits.jsonl: line 1: ")


def test_lines_that_journald_dropped_are_counted_by_its_own_word_alone(run: Run) -> None:
    forged = f"{AT} python3[41]: systemd-journald[1]: Suppressed 9 messages from jarfleet-{RUN}-a-workload.service\n"
    dropped = f"{AT} systemd-journald[50]: Suppressed 1500 messages from jarfleet-{RUN}-a-workload.service\n"
    leave(run, forged)
    assert suppressed_lines(run.path, ["a", "b"]) == {}
    leave(run, dropped + forged + dropped)
    assert suppressed_lines(run.path, ["a"])["a"].startswith("3000 lines of its log were suppressed")
