"""`python -m placement plan`, as a user types it."""

import json
import subprocess
import sys

from cluster import ROOT


def placement(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "placement", *words], cwd=ROOT, capture_output=True, text=True)


def plan(experiment: str, *words: str, inventory: str = "inventory/lab") -> subprocess.CompletedProcess[str]:
    return placement("plan", "--inventory", inventory, "--experiment", experiment, *words)


def test_a_plan_is_a_table_and_exit_code_0():
    done = plan("split_brain")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[3].split() == ["a", "jetson", "65", "20", "20", "15", "0", "10", "9000", "9001"]
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m placement plan -i inventory/lab -e split_brain --format json | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_json_has_the_documented_shape():
    done = plan("experiments/split_brain.yml", "--format", "json", "--strategy", "greedy", "--pin", "b:rpi2")
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(done.stdout)
    assert data["assignments"] == {"a": "jetson", "b": "rpi2"}
    assert data["ports"] == {id: {"peer": 9000, "llama": 9001} for id in ("a", "b")}
    assert (data["strategy"], data["score"], data["bound"], data["optimal"]) == ("greedy", 110, None, False)
    assert data["instances"]["a"]["nodes"]["jetson"] == {
        "score": 65,
        "components": {"ram_fit": 20, "load": 20, "gpu": 15, "affinity": 0, "preferred_node": 10},
    }
    assert data["instances"]["b"]["nodes"]["jetson"] == {
        "rejected": ["pin: pinned to rpi2", "anti_affinity: apart from a"]
    }
    jetson = data["nodes"]["jetson"]
    assert {key: jetson[key] for key in ("status", "instances", "max_instances", "ram_gb", "allocated_ram_gb")} == {
        "status": "HEALTHY",
        "instances": 1,
        "max_instances": 4,
        "ram_gb": 64,
        "allocated_ram_gb": 8,
    }


def test_bad_input_of_every_source_is_exit_code_2_and_one_line_a_fault():
    done = plan("split_brian", "--pin", "a", inventory="inventory/labb")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["--pin", "inventory", "experiment"]
    assert "did you mean 'split_brain'?" in done.stderr


def test_an_unknown_node_is_exit_code_2_with_a_hint():
    done = plan("split_brain", "--pin", "a:jetsn")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "placement: a:jetsn: no node is named 'jetsn'; did you mean 'jetson'?\n"


def test_no_plan_is_exit_code_3_with_the_reasons_for_a_person_and_as_json():
    done = plan("split_brain", "--pin", "a:rpi1", "--format", "json")
    assert done.returncode == 3
    assert "  rpi1    ram: needs 8.0 GB, has 7.0 free" in done.stderr.splitlines()[4]
    data = json.loads(done.stdout)
    assert data["infeasible"] is True
    assert data["rejections"]["a"]["jetson"] == ["pin: pinned to rpi1"]


def test_help_says_how():
    done = placement("plan", "--help")
    assert done.returncode == 0
    assert "3 no plan exists" in " ".join(done.stdout.split())


def test_an_unknown_strategy_is_exit_code_2():
    done = plan("split_brain", "--strategy", "best")
    assert done.returncode == 2
    assert "greedy" in done.stderr


def test_pins_in_a_cycle_are_refused_as_the_instances_that_they_name():
    done = plan("split_brain", "--pin", "a:b", "--pin", "b:a")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(";")[0] for line in done.stderr.splitlines()] == [
        "placement: a:b: no node is named 'b'",
        "placement: b:a: no node is named 'a'",
    ]
    assert done.stderr.count("is an instance, and affinity keeps instances together") == 2


def test_options_that_are_no_numbers_are_refused_all_at_once():
    done = plan("prisoners_dilemma", "--time-limit", "1e400", "--seed", "-1", "--repeat", "nan", "--pin", "player_a:x")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "--time-limit", "--seed", "--repeat", "placement",
    ]  # fmt: skip


def test_a_designed_experiment_is_planned_by_seed_and_repeat(tmp_path):
    file = tmp_path / "twins.yml"
    file.write_text(
        "name: twins\ninstances: [{id: a, ram_gb: 2}, {id: b, ram_gb: 2}]\n"
        "design: {randomize: true, counterbalance: [a, b]}\n"
    )
    done = plan(str(file), "--seed", "7", "--repeat", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:3] == [
        "drawn with seed 7 among the equally good plans",
        "repeat 2 of 3: a on a raspberry_pi, b on a host",
    ]
    assert plan(str(file), "--seed", "7", "--repeat", "2").stdout == done.stdout


def test_a_design_that_cannot_be_balanced_is_exit_code_3_with_the_reason(tmp_path):
    file = tmp_path / "one.yml"
    file.write_text("name: one\ninstances: [{id: a, ram_gb: 2, gpu: required}]\ndesign: {counterbalance: [a]}\n")
    done = plan(str(file), "--format", "json")
    assert done.returncode == 3
    assert "needs 2 types of HEALTHY node on which each of a can run; there is only jetson_orin" in done.stderr
    assert json.loads(done.stdout)["rejections"]["a"]["rpi1"] == ["gpu: required, has none"]


def test_why_reports_what_if_below_the_table():
    done = plan("hive_cluster", "--why", "pessimist:rpi2", "--why", "critic:host")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-4:] == [
        "what if pessimist were not on rpi1 but on",
        "  rpi2: the plan loses 10 points; would move there with 1.6 GB more RAM, or preferred_node: rpi2",
        "what if critic were not on jetson but on",
        "  host: the plan loses 5 points; would move there with preferred_node: host",
    ]


def test_why_as_json_is_beside_the_keys_of_the_plan():
    asked = json.loads(plan("split_brain", "--format", "json", "--why", "b").stdout)
    plain = json.loads(plan("split_brain", "--format", "json").stdout)
    answers = asked.pop("counterfactuals")
    assert asked == plain
    assert set(answers["b"]) == {"host", "jetson", "rpi2"}
    assert (answers["b"]["rpi2"]["loss_at_least"], answers["b"]["rpi2"]["loss_at_most"]) == (0, 0)
    assert answers["b"]["jetson"]["conflict"]["instances"] == ["a", "b"]


def test_why_of_nobody_is_exit_code_2_with_a_hint():
    done = plan("split_brain", "--why", "c", "--why", "b:rpi", "--why", ":")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "--why: ':' is not instance or instance:node; give b, or b:rpi2\n"
    done = plan("split_brain", "--why", "c", "--why", "b:rpi")
    assert done.stderr.splitlines() == [
        "--why: c: no instance is named 'c'; there is a, b",
        "--why: b:rpi: no node is named 'rpi'; did you mean 'rpi2' or 'rpi1'?",
    ]


def test_a_refusal_reports_the_conflict_and_what_would_make_it_fit():
    done = plan("split_brain", "--pin", "a:rpi1", "--format", "json")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-6:] == [
        "  a needs a GPU and is pinned to rpi1",
        "  rpi1: no GPU",
        "",
        "each of these makes it fit, the smallest change first:",
        "  no pin of a to rpi1",
        "  without a",
    ]
    data = json.loads(done.stdout)
    assert (data["conflict"]["instances"], data["conflict"]["smallest"]) == (["a"], True)
    assert [remedy["change"] for remedy in data["remedies"]] == ["pin", "without"]
