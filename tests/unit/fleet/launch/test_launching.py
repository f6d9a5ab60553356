"""What each node is sent, and what a person is shown of a run that goes on by itself."""

from dataclasses import replace
from pathlib import Path

import pytest

from contract.events import Launched, LaunchFailed, Placed
from contract.promises import PROMISES
from fleet.intake.request import ModelRef, ReleaseRef, Request
from fleet.launch.launching import Settled, detached_table, settle
from fleet.launch.shipments import shipments
from fleet.observe.cluster import Cluster
from fleet.record.run_folder import Run
from fleet.record.signing import Keys

RUN = "x_20261123T141500Z_3f2a"
NODE = {"ssh_user": "pi", "remote_work_dir": "/w", "llama_cpp_build": "x", "llama_cpp_builds": {"x": {}}, "ram_gb": 8}
ALIVE = {"node_probe": {"state": {"status": "HEALTHY", "promises": {"kept": dict.fromkeys(PROMISES, True)}}}}
MODELS = {"a": ModelRef("1" * 64, "/m/one.gguf", "one.gguf"), "b": ModelRef("2" * 64, "/m/two.gguf", "two.gguf")}
REQUEST = Request("x", "x.yml", "", ReleaseRef("h", "/cache/h"), models={**MODELS, "c": MODELS["a"]})


@pytest.fixture
def cluster() -> Cluster:
    return Cluster.from_hostvars({"n1": {**NODE, **ALIVE}, "n2": {**NODE, **ALIVE}, "silent": NODE})


def sent(cluster: Cluster, assignments: dict[str, str] | None) -> dict[str, list[str]]:
    return {one.name: [item["name"] for item in one.artifacts] for one in shipments(REQUEST, cluster, assignments)}


def test_a_model_goes_only_to_the_nodes_that_run_it(cluster: Cluster) -> None:
    assert sent(cluster, {"a": "n1", "b": "n2", "c": "n1"}) == {
        "n1": ["code", "model one.gguf"],
        "n2": ["code", "model two.gguf"],
    }


def test_without_a_plan_every_node_that_answers_gets_all(cluster: Cluster) -> None:
    everything = ["code", "model one.gguf", "model two.gguf"]
    assert sent(cluster, None) == {"n1": everything, "n2": everything}


def test_an_artifact_lies_under_the_hash_of_its_content(cluster: Cluster) -> None:
    (one,) = shipments(REQUEST, cluster, {"a": "n1"})
    assert [item["dest"] for item in one.artifacts] == ["/w/releases/h", f"/w/models/{'1' * 64}.gguf"]


def test_a_model_in_several_files_goes_as_what_llama_cpp_calls_its_parts(cluster: Cluster) -> None:
    parts = ModelRef("3" * 64, "/m/big-00001-of-00002.gguf", "big-00001-of-00002.gguf", parts=("4" * 64, "5" * 64))
    (one,) = shipments(replace(REQUEST, models={"a": parts}), cluster, {"a": "n1"})
    assert [(item["name"], item["src"], item["sha256"], item["dest"]) for item in one.artifacts[1:]] == [
        (
            f"model big-0000{number}-of-00002.gguf",
            f"/m/big-0000{number}-of-00002.gguf",
            sha256 * 64,
            f"/w/models/{'3' * 64}-0000{number}-of-00002.gguf",
        )
        for number, sha256 in ((1, "4"), (2, "5"))
    ]


def test_what_started_and_what_did_not_is_written_down(tmp_path: Path, cluster: Cluster) -> None:
    run = Run.create(tmp_path, RUN, {}, {})
    outcomes = {
        "a@n1": {"status": "RUNNING"},
        "b@n2": {"failed": True, "msg": "no room\n"},
        "c@n1": {"unreachable": True},
    }
    settled = settle(run, outcomes, cluster, Keys(str(tmp_path / "none")))
    assert settled.failed == {"b@n2": "no room", "c@n1": "the node did not answer"}
    assert [event for _, event in run.events()][1:] == [
        Launched("a@n1", "RUNNING"),
        LaunchFailed("b@n2", "no room"),
        LaunchFailed("c@n1", "the node did not answer"),
    ]


def test_a_detached_run_says_what_runs_and_what_goes_on_with_it(tmp_path: Path) -> None:
    run = Run.create(tmp_path, RUN, {}, {"assignments": {"a": "n1", "b": "n2"}})
    run.append(Placed({"a": "n1", "b": "n2"}))
    run.append(Placed({"a": "n1", "b": "n3"}))  # it was resumed
    lines = detached_table(run, " -i inventory/lab").splitlines()
    assert lines[0] == f"{RUN} runs by itself: a on n1, b on n3"
    for verb in ("logs", "status", "fetch", "stop"):
        command = f"ansible-playbook playbooks/{verb}.yml -i inventory/lab -e run={RUN}"
        assert any(line.endswith(command) for line in lines)


def test_a_failed_launch_closes_with_each_instances_own_reason() -> None:
    failed = {"a@n1": "a did not start: exit code 1; its last words: no such module\nlog line", "b@n2": ""}
    assert Settled(failed).rejection.splitlines() == [
        "a@n1: a did not start: exit code 1; its last words: no such module",
        "b@n2: ",
        "what had started is stopped again",
    ]
    assert Settled({}).rejection == ""


def test_what_may_start_on_a_node_that_does_not_answer_is_told_with_how_to_end_it() -> None:
    *_, last = Settled({"a@n1": "Timeout"}, ["a@n1"], RUN).rejection.splitlines()
    assert last == (
        "a@n1 may start all the same when the node answers again; end it then:"
        f" ansible-playbook playbooks/stop.yml -e run={RUN}"
    )
