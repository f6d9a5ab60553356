"""What a collection concludes of each instance: its status, what could not be had, and whether the run went well."""

from pathlib import Path
from typing import Any

import pytest
from past_runs import make_run

from contract.description import InstanceRef
from fleet.report.conclude import Conclusion, conclude


def concluded(tmp_path: Path, **outcome: Any) -> Conclusion:
    """Of `a` that completed, and `b` whose collection had this outcome."""
    run = make_run(tmp_path)
    refs = [InstanceRef(run.run_id, id, node, "/w", "pi") for id, node in (("a", "jetson"), ("b", "rpi1"))]
    return conclude(run, refs, [{"status": "COMPLETED", "faults": []}, outcome])


@pytest.mark.parametrize(
    ("outcome", "status", "bad"),
    [
        ({"status": "COMPLETED", "faults": []}, "COMPLETED", {}),
        ({"unreachable": True, "msg": "Timeout"}, "LOST", {"b": "LOST"}),
        ({"status": "RUNNING", "faults": ["db/b.db: not collected: locked"]}, "RUNNING", {}),
        (
            {"failed": True, "status": "COMPLETED", "faults": ["logs/b.log: not fetched: no room"]},
            "COMPLETED",
            {"b": "COMPLETED: logs/b.log: not fetched: no room"},
        ),
        ({"failed": True, "status": "", "faults": ["there is no /w"]}, "LOST", {"b": "LOST: there is no /w"}),
    ],
    ids=["well", "silent", "partly", "not fetched", "gone"],
)
def test_an_instance_is_lost_only_where_nothing_is_known_of_it(
    tmp_path: Path, outcome: dict[str, Any], status: str, bad: dict[str, str]
) -> None:
    conclusion = concluded(tmp_path, **outcome)
    assert conclusion.statuses == {"a": "COMPLETED", "b": status}
    assert conclusion.bad == bad
    for fault in outcome.get("faults", ()):
        assert fault in conclusion.table, "a person is told"
    assert conclusion.over == (status == "COMPLETED")
