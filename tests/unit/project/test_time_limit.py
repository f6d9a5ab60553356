"""A node that takes an answer for ever is given up."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure

from plugins.base import Action


class Asking(Action):
    """An action whose node answers after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def _execute_module(self, *words: Any, **options: Any) -> dict[str, Any]:
        time.sleep(self.seconds)
        return {"answer": 1}


def test_a_node_that_does_not_answer_in_time_counts_as_one_that_cannot_be_reached() -> None:
    began = time.monotonic()
    with pytest.raises(AnsibleConnectionFailure, match="did not answer within 0 s"):
        Asking(60).ask("node_state", {}, {}, 0.2)
    assert time.monotonic() - began < 30
    assert Asking(0).ask("node_state", {}, {}, 0.2) == {"answer": 1}
    time.sleep(0.3)  # longer than the limit: nothing is left that would strike now
