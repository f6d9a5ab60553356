"""A run is repeated as its record says, or everything that is not so any more is named."""

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.node_state import NodeState
from fleet.artifacts.models import origin, resolve
from fleet.artifacts.releases import stage
from fleet.base.errors import ReplayRejected, SigningError, Unsigned
from fleet.intake.reader import Intake, Places, release_ref
from fleet.intake.request import ModelRef, Request
from fleet.launch import recorded, replay, specs
from fleet.launch.specs import entries, launched_as
from fleet.observe.cluster import Cluster
from fleet.record import signing
from fleet.record.manifest import build_manifest
from fleet.record.run_folder import MANIFEST, SIGNATURE, Run
from fleet.record.signing import Keys
from fleet.results import replay_verdict
from placement import Node, Plan, load_experiment, place_designed

PORTS = (9000, 9100)
RUN = "two_20261123T141500Z_3f2a"
JETSON = Node("jetson", "jetson_orin", ram_gb=64, reserved_ram_gb=8, gpu=True, max_instances=4, cpu_cores=8)
RPI1 = Node("rpi1", "raspberry_pi", ram_gb=8, reserved_ram_gb=1, cpu_cores=4)
BUILT = {"key": "k1", "decides": {"compiler": "12.2.0", "cmake": {"GGML_CUDA": "OFF"}}}


class World:
    """A controller and its nodes, and the signed record of a run that was launched there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache, self.workload = folder, folder / "cache", folder / "workload"
        for package in (self.workload, folder / "contract"):
            package.mkdir()
            (package / "__main__.py").write_text("print(1)\n")
        self.model = folder / "m.gguf"
        self.model.write_bytes(b"GGUF one")
        key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        self.keys = Keys(str(key))
        self.file = folder / "two.yml"
        # Not in the order of their names, which is that of plan.json.
        minds = [{"id": "b", "ram_gb": 2}, {"id": "a", "ram_gb": 8, "gpu": "required", "seed": 7}]
        self.file.write_text(yaml.safe_dump({"name": "two", "instances": minds}, sort_keys=False))
        self.nodes = [JETSON, RPI1]
        self.states: dict[str, NodeState | None] = {
            "jetson": NodeState("HEALTHY", cores=8),
            "rpi1": NodeState("HEALTHY", cores=4),
        }
        common = {"ssh_user": "jar", "remote_work_dir": "/home/jar/x", "llama_cpp_build": "cpu"}
        self.hostvars: dict[str, Any] = {
            name: {**common, "ansible_host": "10.0.0.1", "llama_cpp_builds": {"cpu": {}}, "llama_cpp_built": BUILT}
            for name in ("jetson", "rpi1")
        }

    @property
    def places(self) -> Places:
        return Places(self.folder, self.cache)

    @property
    def cluster(self) -> Cluster:
        cluster = Cluster(self.hostvars, self.states)
        cluster.__dict__["nodes"] = self.nodes  # as these tests have them, not as the variables would make them
        return cluster

    def launched(self, code: str | Path = "", ref: str | None = None) -> Run:
        experiment = load_experiment(self.file)
        plan = place_designed(experiment.design, self.nodes, experiment.instances)
        release = stage(self.cache, self.places.packages, code or None, ref)
        declared = {"path": str(self.model)}
        model = resolve(declared, self.cache)
        known = ModelRef(model.sha256, str(model.path), model.name, origin(declared))
        request = Request(
            name="two",
            path=str(self.file),
            text=experiment.text,
            release=release_ref(release),
            command=("run",) if code else (),
            models={"a": known, "b": known},
        )
        made = entries(RUN, request, experiment, plan, self.cluster)
        facts = recorded.recorded(request, made)
        manifest = build_manifest(**facts, llama_cpp={}, inventory={}, plan=plan.to_json())
        run = Run.create(self.folder / "runs", RUN, manifest, plan.to_json())
        signing.sign(run, self.keys)
        signing.update(run, self.keys, **replay.builds(self.cluster))
        return run

    def prepare(self, run: Run) -> Intake:
        # By JSON, as Ansible hands it on.
        made = replay.prepare(run, self.keys, self.places).to_json()
        return Intake.from_json(json.loads(json.dumps(made)), "replay")

    def again(self, run: Run) -> Plan:
        request = self.prepare(run).request
        assert request.replay
        return replay.hold(request, request.replay, request.experiment, self.cluster)

    def refused(self, run: Run) -> list[str]:
        with pytest.raises(ReplayRejected) as refused:
            self.again(run)
        assert str(refused.value).splitlines()[1:] == refused.value.differences
        return refused.value.differences


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def run(world: World) -> Run:
    return world.launched()


def test_a_run_is_repeated_with_its_plan_code_models_and_command(world: World, run: Run) -> None:
    intake = world.prepare(run)
    assert world.again(run).to_json() == run.plan
    assert intake.request.release.src == str(world.cache / "releases" / run.manifest["code"]["hash"])
    assert intake.request.models["a"].src == str(world.model)
    assert intake.request.replay
    assert intake.request.replay.run_id == RUN
    assert "signed by you, ED25519 key SHA256:" in intake.table


def test_the_experiment_is_the_text_that_was_run_whatever_became_of_its_file(world: World, run: Run) -> None:
    text = world.file.read_text()
    world.file.write_text("name: other\n")
    request = world.prepare(run).request
    path = Path(request.path)
    assert path.read_text() == request.text == text
    assert path.name == "two.yml"
    assert path.is_relative_to(world.cache / "experiments")
    assert world.again(run).to_json() == run.plan


def test_instances_keep_the_order_of_the_file_which_decides_who_builds(world: World, run: Run) -> None:
    recorded = world.prepare(run).request.replay
    assert recorded
    plan = recorded.plan
    assert list(run.plan["assignments"]) == ["a", "b"]
    assert list(plan["assignments"]) == ["b", "a"]
    assert list(plan["ports"]["a"]) == ["peer", "llama"]


def test_the_kept_release_is_run_although_the_code_has_changed_since(world: World, run: Run) -> None:
    (world.workload / "__main__.py").write_text("print(2)\n")
    assert world.again(run).to_json() == run.plan


def test_a_release_that_is_gone_is_staged_again_and_is_the_same(world: World, run: Run) -> None:
    shutil.rmtree(world.cache / "releases")
    release = world.prepare(run).request.release
    assert release.hash == run.manifest["code"]["hash"]
    assert (Path(release.src) / "workload" / "__main__.py").read_text() == "print(1)\n"


def test_a_release_that_is_gone_and_cannot_be_made_again_is_named_and_nothing_is_staged(world: World, run: Run) -> None:
    shutil.rmtree(world.cache / "releases")
    (world.workload / "__main__.py").write_text("print(2)\n")
    (line,) = world.refused(run)
    assert line.startswith(f"code: hash was {run.manifest['code']['hash']}, is ")
    assert not (world.cache / "releases").exists()


def test_a_kept_release_that_was_edited_is_refused(world: World, run: Run) -> None:
    staged = Path(world.prepare(run).request.release.src)
    (staged / "workload" / "__main__.py").write_text("print(3)\n")
    (line,) = world.refused(run)
    assert "was changed since it was staged" in line


def test_code_from_git_is_taken_at_its_commit_again(world: World) -> None:
    mine = world.folder / "mine"
    mine.mkdir()

    def commit(text: str) -> None:
        (mine / "main.py").write_text(text)
        settings = ["-c", "user.name=t", "-c", "user.email=t@t"]
        for words in (["init", "-q"], ["add", "-A"], [*settings, "commit", "-qm", "x"]):
            subprocess.run(["git", *words], cwd=mine, check=True)

    commit("one")
    run = world.launched(f"file://{mine}")
    commit("two")
    shutil.rmtree(world.cache / "releases")
    request = world.prepare(run).request
    assert (Path(request.release.src) / "code" / "main.py").read_text() == "one"
    assert request.command == ("run",)
    assert world.again(run).to_json() == run.plan


def test_a_model_that_changed_is_named_for_each_who_has_it(world: World, run: Run) -> None:
    world.model.write_bytes(b"GGUF two")
    was, now = (f"{sha[:12]}..." for sha in (run.manifest["models"]["a"]["sha256"], sha256(world.model)))
    assert world.refused(run) == [f"model of {id}: sha256 was {was}, is {now} ({world.model})" for id in "ab"]


def test_a_model_that_is_gone_is_named_or_taken_from_the_cache(world: World, run: Run) -> None:
    kept = world.cache / "models" / f"{sha256(world.model)}.gguf"
    world.model.rename(kept)
    assert world.prepare(run).request.models["a"].src == str(kept)
    assert world.again(run).to_json() == run.plan
    kept.unlink()
    assert [line.partition(": ")[0] for line in world.refused(run)] == ["model of a", "model of b"]
    assert f"{world.model}: no such file" in world.refused(run)[0]


def test_another_llama_cpp_is_named_with_what_makes_it_another(world: World, run: Run) -> None:
    decides = {"compiler": "13.1.0", "cmake": {"GGML_CUDA": "ON"}}
    world.hostvars["rpi1"]["llama_cpp_built"] = {"key": "k2", "decides": decides}
    assert world.refused(run) == [
        "llama.cpp of rpi1: build was k1, is k2; cmake.GGML_CUDA was OFF, is ON; compiler was 12.2.0, is 13.1.0"
    ]


def test_a_builder_that_cannot_say_is_named(world: World, run: Run) -> None:
    world.hostvars["rpi1"]["llama_cpp_built"] = {"failed": True, "msg": "no room"}
    assert world.refused(run) == ["llama.cpp of rpi1: which build it would get is not known: no room"]


def with_node(name: str, **changes: Any) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.nodes = [replace(node, **changes) if node.name == name else node for node in world.nodes]

    return change


def silent(world: World) -> None:
    with_node("rpi1", status="UNAVAILABLE")(world)
    world.states["rpi1"] = None
    world.hostvars["rpi1"]["llama_cpp_built"] = {"unreachable": True}


def without_rpi1(world: World) -> None:
    world.nodes = [JETSON]
    del world.hostvars["rpi1"], world.states["rpi1"]


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (silent, ["assignments.b: rpi1 is refused: status: UNAVAILABLE, not HEALTHY"]),
        (without_rpi1, ["assignments.b: there is no node rpi1"]),
        (with_node("rpi1", status="MAINTENANCE"), ["assignments.b: rpi1 is refused: status: MAINTENANCE, not HEALTHY"]),
        (
            with_node("rpi1", used_ports=frozenset({9000})),
            ["ports.b: are {'peer': 9000, 'llama': 9001}, not {'peer': 9001, 'llama': 9002}"],
        ),
    ],
)
def test_a_plan_that_no_longer_fits_or_starts_otherwise_is_refused(
    world: World, run: Run, change: Callable[[World], None], lines: list[str]
) -> None:
    change(world)
    assert world.refused(run) == lines


def test_an_instance_gets_the_arguments_that_it_had_whatever_it_would_get_now(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run.manifest["instances"]["b"]
    with_node("rpi1", cpu_cores=2)(world)
    world.hostvars["rpi1"]["remote_work_dir"] = "/srv/x"
    monkeypatch.setattr(specs, "server_args", lambda *_: ["--of-another-version"])
    plan, request = world.again(run), world.prepare(run).request
    made = specs.entries("two_20261124T141500Z_ffff", request, request.experiment, plan, world.cluster)
    spec = next(entry.launch_spec for entry in made if entry.launch_spec.id == "b")
    assert launched_as(spec) == before
    assert spec.limits.cpu_percent == 400
    words = spec.llama_server.command
    assert words[words.index("--threads") + 1] == "4"
    assert words[words.index("--model") + 1].startswith("/srv/x/models/")
    assert "--metrics" in words


def test_what_else_lives_on_a_node_and_where_it_is_does_not_matter_as_long_as_the_plan_fits(
    world: World, run: Run
) -> None:
    with_node("jetson", current_instances=1, allocated_ram_gb=4, used_ports=frozenset({9050}))(world)
    world.nodes.append(replace(RPI1, name="rpi9"))
    world.hostvars["rpi9"], world.states["rpi9"] = world.hostvars["rpi1"], NodeState("HEALTHY", cores=4)
    world.hostvars["jetson"]["ansible_host"] = "10.0.0.99"
    assert world.again(run).assignments == run.plan["assignments"]


def test_everything_that_differs_is_named_at_once(world: World, run: Run) -> None:
    world.model.write_bytes(b"GGUF two")
    shutil.rmtree(world.cache / "releases")
    (world.workload / "__main__.py").write_text("print(2)\n")
    world.hostvars["jetson"]["llama_cpp_built"] = {"key": "k2", "decides": {}}
    with_node("rpi1", status="DEGRADED")(world)
    starts = ("code: ", "model of a: ", "model of b: ", "llama.cpp of jetson: ", "assignments.b: ")
    found = world.refused(run)
    assert len(found) == len(starts)
    assert all(line.startswith(start) for line, start in zip(found, starts, strict=True)), found


def test_an_edited_plan_is_found_by_the_manifest(world: World, run: Run) -> None:
    plan = run.plan
    plan["assignments"]["b"] = "jetson"
    (run.path / "plan.json").write_text(json.dumps(plan))
    assert world.refused(run) == ["plan.json: was changed since the run; b was rpi1, is jetson"]


def test_an_edited_manifest_is_found_by_its_signature(world: World, run: Run) -> None:
    path = run.path / MANIFEST
    path.write_text(path.read_text().replace('"seed": 7', '"seed": 8'))
    with pytest.raises(SigningError, match="is not what was signed"):
        world.again(run)


def test_an_unsigned_run_is_not_repeated(world: World, run: Run) -> None:
    (run.path / SIGNATURE).unlink()
    with pytest.raises(Unsigned, match=r"playbooks/sign\.yml"):
        world.again(run)
    signing.sign(run, world.keys)
    assert world.again(run).to_json() == run.plan


@pytest.mark.parametrize("dotted", recorded.NEEDED)
def test_a_record_without_something_that_a_replay_needs_is_refused_by_naming_it(
    world: World, run: Run, dotted: str
) -> None:
    top, _, below = dotted.partition(".")
    value = run.manifest[top]
    if below:
        del value[below]
    signing.update(run, world.keys, **{top: value if below else None})
    assert any(f"{dotted} is missing" in line for line in world.refused(run))


def test_a_run_that_was_never_launched_is_not_repeated(world: World, run: Run) -> None:
    signing.update(run, world.keys, llama_cpp={"jetson": "k1"})
    assert world.refused(run) == [
        "manifest.json: llama_cpp.rpi1 is missing: the run was never launched; run the experiment anew"
    ]


def test_a_release_from_before_it_held_the_contract_is_told_apart(world: World, run: Run) -> None:
    assert world.prepare(run).request.release.has_contract
    old = stage(world.cache, [world.workload])  # what was staged before
    manifest = {**run.manifest["code"], "hash": old.hash}
    signing.update(run, world.keys, code=manifest)
    request = world.prepare(run).request
    assert not request.release.has_contract


def test_a_models_address_is_recorded_without_its_password() -> None:
    assert origin({"url": "https://me:token@host/m.gguf", "sha256": "a" * 64}) == {"url": "https://host/m.gguf"}


TABLES = """
CREATE TABLE messages (run_id, instance, node, message_id, cycle_number, role, content, emotion, corrupted, injected,
    sender, recipient, round, remembered, source_rowid);
CREATE TABLE experiment_cycles (run_id, instance, node, started_at, ended_at, duration_seconds, death_cause,
    crash_reason, memory_usage_peak, cycle_number, source_rowid);
"""
Said = list[tuple[str, int, str]]  # instance, round, content
SAID: Said = [("a", 1, "one"), ("b", 1, "two"), ("a", 2, "a long beginning, and then three")]


def talked(folder: Path, name: str, said: Said, of: str | None = None, dead: str = "") -> Run:
    """A run whose merged database says who said what."""
    run = Run.create(folder, f"x_20261123T14150{name}Z_0000", {"replay_of": of}, {})
    with closing(sqlite3.connect(run.path / "experiments.db")) as database, database:
        database.executescript(TABLES)
        for number, (instance, round, content) in enumerate(said):
            values = {"instance": instance, "node": "n", "round": round, "content": content, "source_rowid": number}
            database.execute(
                "INSERT INTO messages (instance, node, round, content, source_rowid)"
                " VALUES (:instance, :node, :round, :content, :source_rowid)", values
            )  # fmt: skip
        if dead:
            life = (
                "INSERT INTO experiment_cycles (instance, node, death_cause, source_rowid) VALUES (?, 'n', 'signal', 1)"
            )
            database.execute(life, (dead,))
    return run


@pytest.fixture
def original(tmp_path: Path) -> Run:
    return talked(tmp_path, "0", SAID)


def test_a_replay_that_went_the_same_way_is_reported_as_such(tmp_path: Path, original: Run) -> None:
    again = talked(tmp_path, "1", SAID, of=original.run_id)
    assert replay_verdict.verdict(again) == f"replay of {original.run_id}: the transcripts are identical, 3 rows"
    assert replay_verdict.verdict(original) == ""


def test_the_first_word_that_was_another_is_shown(tmp_path: Path, original: Run) -> None:
    said: Said = [*SAID[:2], ("a", 2, "a long beginning, and then four"), ("b", 2, "more")]
    assert replay_verdict.verdict(talked(tmp_path, "1", said, of=original.run_id)).splitlines() == [
        f"replay of {original.run_id}: the transcripts differ from row 3 on, of 3 there and 4 here:",
        "  messages of a, round 2: content was ...ning, and then three, is ...ning, and then four",
    ]


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (SAID[:2], "there messages of a, round 2, here nothing more"),
        ([*SAID, ("b", 2, "more")], "there nothing more, here messages of b, round 2"),
        ([SAID[0], ("b", 2, "two")], "there messages of b, round 1, here messages of b, round 2"),
    ],
)
def test_a_replay_that_said_less_or_more_is_reported_with_the_place(
    tmp_path: Path, original: Run, said: Said, line: str
) -> None:
    assert line in replay_verdict.verdict(talked(tmp_path, "1", said, of=original.run_id))


def test_a_death_is_named_as_what_is_not_repeated(tmp_path: Path, original: Run) -> None:
    again = talked(tmp_path, "1", SAID[:2], of=original.run_id, dead="b")
    assert "processes died, 0 there and 1 here" in replay_verdict.verdict(again)


def test_what_cannot_be_compared_is_reported(tmp_path: Path, original: Run) -> None:
    again = talked(tmp_path, "1", [], of=talked(tmp_path, "2", []).run_id)
    assert "neither run has a transcript" in replay_verdict.verdict(again)
    again = talked(tmp_path, "3", SAID, of=original.run_id)
    (original.path / "experiments.db").unlink()
    assert "cannot be compared" in replay_verdict.verdict(again)
    shutil.rmtree(original.path)
    assert f"no run '{original.run_id}'" in replay_verdict.verdict(again)


def sha256(path: Path) -> str:
    return subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout[:64]
