"""A finished run again, exactly as its signed manifest says; or everything named that is not so any more."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.record import signing
from fleet.record.run_folder import Run
from fleet.record.signing import Keys
from fleet.results.compare import Row
from fleet.results.compare import transcript as transcript_of
from fleet.results.merged_database import opened
from tests.integration.conftest import CACHE, NODES, ROOT, Played, Project, own_program, snapshot, write_experiment
from tests.nodes import Cluster


def new_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_key(tmp_path_factory.mktemp("keys") / "key")


def by(key: Path) -> list[str]:
    return ["-e", f"manifest_signing_key={key}"]


def transcript(record: Path) -> list[Row]:
    with opened(record) as database:
        return transcript_of(database)


def replay(project: Project, run_id: str, *words: str, code: int = 0) -> Played:
    return project.play("playbooks/replay.yml", "-e", f"run={run_id}", *words, code=code)


@pytest.fixture(scope="module")
def first(project: Project, key: Path) -> str:
    """A run of split_brain as it comes: temperature 0.8, seeded."""
    return project.run("split_brain", *by(key)).run_id


def test_a_manifest_is_signed_as_it_is_at_the_end(project: Project, key: Path, first: str) -> None:
    manifest, who = signing.verify(Run(project.record(first)), Keys(str(key)))
    assert who.startswith("you, ED25519 key SHA256:")
    assert set(manifest["llama_cpp"]) == {"jetson", "rpi1"}
    text = json.dumps(manifest)
    assert "PRIVATE KEY" not in text
    assert str(key) not in text


def test_seeded_minds_say_the_same_again(project: Project, key: Path, first: str) -> None:
    played = replay(project, first, *by(key))
    assert f"replay of {first}, signed by you, ED25519 key SHA256:" in played.output
    assert "the transcripts are identical" in played.output
    original, again = project.record(first), project.record(played.run_id)
    rows = transcript(original)
    assert len(rows) >= 24, "two minds, six rounds, and what each said"
    assert rows == transcript(again)
    manifests = [json.loads((record / "manifest.json").read_text()) for record in (original, again)]
    assert (manifests[0]["replay_of"], manifests[1]["replay_of"]) == (None, first)
    same = (
        "experiment",
        "experiment_file",
        "code",
        "models",
        "llama_cpp",
        "plan_sha256",
        "pins",
        "memory",
        "instances",
    )
    assert {key: manifests[0][key] for key in same} == {key: manifests[1][key] for key in same}
    assert signing.verify(Run(again), Keys(str(key)))


def test_another_seed_says_something_else_which_the_comparison_finds(
    project: Project, key: Path, first: str, tmp_path: Path
) -> None:
    document = yaml.safe_load((ROOT / "experiments" / "split_brain.yml").read_text())
    document["instances"][1]["seed"] = 2
    other = tmp_path / "split_brain.yml"
    other.write_text(yaml.safe_dump(document))
    played = project.run(other, *by(key))
    assert transcript(project.record(first)) != transcript(project.record(played.run_id))


@pytest.mark.slow
def test_at_temperature_0_minds_say_the_same_again(project: Project, key: Path, tmp_path: Path) -> None:
    experiment = write_experiment(tmp_path, name="cold", workload={"temperature": 0, "rounds": 3})
    cold = project.run(experiment, *by(key)).run_id
    experiment.unlink()
    played = replay(project, "latest", *by(key))
    assert f"replay of {cold}: the transcripts are identical" in played.output
    assert transcript(project.record(cold)) == transcript(project.record(played.run_id))


def test_a_check_of_a_replay_changes_nothing(project: Project, cluster: Cluster, key: Path, first: str) -> None:
    before, runs = {node: snapshot(cluster, node) for node in NODES}, sorted(project.runs.iterdir())
    played = replay(project, first, *by(key), "--check", "--diff")
    assert "+jetson: a of split_brain (new)" in played.output
    assert before == {node: snapshot(cluster, node) for node in NODES}
    assert sorted(project.runs.iterdir()) == runs


@pytest.fixture
def untouched(project: Project, cluster: Cluster) -> Any:
    """Whatever is refused here starts nothing, and changes nothing on any node."""
    before, runs = {node: snapshot(cluster, node) for node in NODES}, sorted(project.runs.iterdir())

    def check() -> None:
        assert before == {node: snapshot(cluster, node) for node in NODES}
        assert sorted(project.runs.iterdir()) == runs

    return check


def changed_llama(**entries: str) -> list[str]:
    """The option that adds CMake entries to every build of llama.cpp."""
    flags = yaml.safe_load((ROOT / "group_vars" / "all" / "llama_cpp.yml").read_text())["llama_cpp_cmake_common"]
    return ["-e", json.dumps({"llama_cpp_cmake_common": {**flags, **entries}})]


@pytest.fixture(scope="module")
def mine(project: Project, key: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A run of one's own program on a model of one's own; and the folder of both."""
    folder = tmp_path_factory.mktemp("mine")
    shutil.copy(CACHE / "models" / "tiny.gguf", folder / "own.gguf")
    experiment = folder / "mine.yml"
    text = {"name": "mine", "model": {"path": str(folder / "own.gguf")}, "instances": [{"id": "solo", "ram_gb": 2}]}
    experiment.write_text(yaml.safe_dump(text))
    return project.run(experiment, *own_program(folder, "print('HELLO')\n"), *by(key)).run_id, folder


def test_code_that_changed_since_is_replayed_as_it_was_from_the_release_that_is_kept(
    project: Project, key: Path, mine: tuple[str, Path]
) -> None:
    run_id, folder = mine
    (folder / "code" / "main.py").write_text("print('BYE')\n")
    played = replay(project, run_id, *by(key))
    assert "HELLO" in (project.record(played.run_id) / "logs" / "solo.log").read_text()
    assert f"replay of {run_id}: neither run has a transcript" in played.output


def test_whatever_is_not_as_it_was_is_named_at_once(
    project: Project, cluster: Cluster, key: Path, mine: tuple[str, Path], untouched: Any
) -> None:
    run_id, folder = mine
    digest = json.loads((project.record(run_id) / "manifest.json").read_text())["code"]["hash"]
    release = CACHE / "releases" / digest
    aside = release.rename(folder / digest)
    (folder / "code" / "main.py").write_text("print('BYE')\n")
    with (folder / "own.gguf").open("ab") as file:
        file.write(b"more")
    try:
        refused = replay(project, run_id, *by(key), *changed_llama(GGML_AVX512="ON"), code=2)
    finally:
        aside.rename(release)
    for line in (
        f"{run_id} cannot be run again as it was; nothing was changed:",
        f"code: hash was {digest}, is ",
        "model of solo: sha256 was bb66e7c99fa4..., is ",
        "cmake.GGML_AVX512 was missing, is ON",
    ):
        assert line in refused.output
    untouched()


def test_another_llama_cpp_alone_is_refused(project: Project, key: Path, first: str, untouched: Any) -> None:
    refused = replay(project, first, *by(key), *changed_llama(GGML_AVX512="ON"), code=2)
    for node in ("jetson", "rpi1"):
        assert f"llama.cpp of {node}: build was " in refused.output
    assert "nothing changed" in refused.output, "to ask for a build's key builds nothing"
    untouched()


def test_what_a_run_has_decided_is_not_given_beside_it(project: Project, key: Path, first: str, untouched: Any) -> None:
    refused = replay(project, first, *by(key), "-e", "experiment=panopticon", "-e", "placement=a:rpi2", code=2)
    assert "experiment: given beside a run to replay" in refused.output
    assert "placement: given beside a run to replay" in refused.output
    untouched()


def test_an_edited_plan_is_refused(project: Project, key: Path, first: str, untouched: Any) -> None:
    path = project.record(first) / "plan.json"
    text = path.read_text()
    path.write_text(text.replace('"b": "rpi1"', '"b": "rpi2"'))
    try:
        refused = replay(project, first, *by(key), code=2)
    finally:
        path.write_text(text)
    assert "plan.json: was changed since the run; b was rpi1, is rpi2" in refused.output
    untouched()


def test_an_edited_manifest_is_refused_and_not_signed_over(
    project: Project, key: Path, first: str, untouched: Any
) -> None:
    path = project.record(first) / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace("You are the ORIGINAL", "You are the 0RIGINAL"))
    try:
        for playbook in ("replay", "sign"):
            refused = project.play(f"playbooks/{playbook}.yml", "-e", f"run={first}", *by(key), code=2)
            assert "manifest.json: is not what was signed" in refused.output
    finally:
        path.write_text(text)
    untouched()


def test_a_run_signed_by_somebody_else_is_replayed_once_its_signer_is_allowed(
    project: Project, key: Path, first: str, tmp_path: Path, untouched: Any
) -> None:
    other = new_key(tmp_path / "other")
    refused = replay(project, first, *by(other), code=2)
    assert "is signed with ED25519 key SHA256:" in refused.output
    assert "manifest_allowed_signers" in refused.output
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(f"max@lab {key.with_suffix('.pub').read_text()}")
    played = replay(project, first, *by(other), "-e", f"manifest_allowed_signers={allowed}", "--check")
    assert "signed by max@lab, ED25519 key SHA256:" in played.output
    untouched()


@pytest.mark.slow
def test_a_run_without_a_key_says_so_and_is_replayed_once_it_is_signed(
    project: Project, key: Path, tmp_path: Path
) -> None:
    played = project.run(write_experiment(tmp_path, name="unsigned", workload={"rounds": 1}), *by(tmp_path / "missing"))
    run_id = played.run_id
    assert f"manifest of {run_id} is not signed, and cannot be replayed before it is" in " ".join(played.output.split())
    assert not (project.record(run_id) / "manifest.json.sig").exists()
    refused = replay(project, run_id, *by(key), code=2)
    assert f"playbooks/sign.yml -e run={run_id}" in refused.output
    sign = ("playbooks/sign.yml", "-e", f"run={run_id}", *by(key))
    assert "Sign the manifest" in project.play(*sign, "--check").output
    assert not (project.record(run_id) / "manifest.json.sig").exists()
    assert "Sign the manifest" in project.play(*sign).output
    assert "nothing changed" in project.play(*sign).output
    assert "nothing changed" not in replay(project, run_id, *by(key), "--check").output
