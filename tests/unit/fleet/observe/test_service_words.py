"""A person's words for nodes: kept on the controller, heeded by every plan."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fleet.observe import service_words
from fleet.observe.cluster import Cluster


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_a_word_is_kept_until_it_is_taken_back() -> None:
    assert service_words.read("lab") == {}
    assert service_words.write("lab", "rpi1", service_words.DRAINED, check=True)
    assert service_words.read("lab") == {}
    assert service_words.write("lab", "rpi1", service_words.DRAINED)
    assert not service_words.write("lab", "rpi1", service_words.DRAINED)
    assert service_words.write("lab", "rpi2", service_words.MAINTENANCE)
    assert service_words.read("lab") == {"rpi1": "drained", "rpi2": "maintenance"}
    assert service_words.read("other") == {}
    assert service_words.write("lab", "rpi1", "")
    assert service_words.read("lab") == {"rpi2": "maintenance"}


def test_words_at_the_same_time_are_all_kept() -> None:
    words = [threading.Thread(target=service_words.write, args=("lab", f"n{i}", "maintenance")) for i in range(20)]
    for one in words:
        one.start()
    for one in words:
        one.join()
    assert len(service_words.read("lab")) == 20


def test_every_plan_heeds_it() -> None:
    service_words.write("lab", "a", service_words.DRAINED)
    service_words.write("lab", "gone", service_words.MAINTENANCE)
    nodes = {name: {"cluster_name": "lab", "node_probe": {"state": {"status": "HEALTHY"}}} for name in "ab"}
    nodes["c"] = {"cluster_name": "lab", "node_maintenance": True}
    cluster = Cluster.from_task_vars({"hostvars": nodes, "groups": {"nodes": list(nodes)}})
    assert [name for name, status in cluster.statuses.items() if status == "MAINTENANCE"] == ["a", "c"]
