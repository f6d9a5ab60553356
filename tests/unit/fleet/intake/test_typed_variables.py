"""Words and names after -e that Ansible would drop or ignore without a word."""

import pytest

from fleet.intake.reader import VARIABLES
from fleet.intake.typed_variables import typed_faults


def faults(*texts: str) -> list[str]:
    return [str(fault) for fault in typed_faults(texts, VARIABLES)]


@pytest.mark.parametrize(
    "text",
    [
        "experiment=split_brain",
        "experiment=split_brain detach=true",
        "experiment_config=A.json,B.json",
        "experiment_command='/usr/bin/python3 main.py hello'",
        '{"experiment": "x", "workload": {"rounds": 3}}',
        "{experiment_command: [/usr/bin/python3, main.py]}",
        "@vault.yml",
        "ansible_user=pi",
        "my_own=1",
        "why=b:rpi2",
        "it's",
    ],
)
def test_what_is_a_variable_is_taken(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("experiment_config=A.json B.json", "experiment_config: 'B.json' stands after it and would be dropped"),
        ("experiment_command=/usr/bin/python3 main.py", "experiment_command: 'main.py' stands after it"),
        ("detach", "-e: 'detach' stands after it"),
        ("placment=a:rpi1", "placment: no variable of this project's; did you mean placement?"),
        ("{monitor_durations: 10}", "monitor_durations: no variable of this project's; did you mean monitor_duration?"),
        ("experiment=x detatch=true", "detatch: no variable of this project's; did you mean detach?"),
    ],
)
def test_what_would_be_dropped_or_ignored_is_a_fault(text: str, fault: str) -> None:
    (found,) = faults("experiment=x", text)
    assert found.startswith(fault)
