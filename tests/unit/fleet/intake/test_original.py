"""The original's config files: every key arrives, or it is reported what becomes of it; faults name file and key."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.intake.original.settings import ENDLESS
from fleet.intake.original.translate import MOST_LINES, Original, files_of, read
from placement import BadInput, load_experiment
from placement.adapters.schemas import dotted
from workload import settings
from workload.this_instance import Instance

HERE = Path(__file__).parent / "original"
TOGETHER = (
    ("twins_A", "twins_B"),
    ("choir",),
    ("bargain_a", "bargain_b"),
    ("tower",),
    ("forgetful",),
    ("foretold",),
    ("lever", "adrift"),
)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    models.mkdir()
    (models / "tiny.gguf").write_bytes(b"GGUF")
    return tmp_path


def documents(*names: str) -> dict[str, Any]:
    return {name: json.loads((HERE / f"{name}.json").read_text()) for name in names}


def made(cache: Path, documents: dict[str, Any]) -> Original:
    """What these documents become, as files of one folder."""
    for name, document in documents.items():
        (cache / f"{name}.json").write_text(json.dumps(document))
    return read([str(cache / f"{name}.json") for name in documents], cache)


def changed(cache: Path, fixture: str, **changes: Any) -> Original:
    """A fixture with some of its keys changed (a__b: b of a)."""
    return made(cache, {fixture: with_changes(documents(fixture)[fixture], **changes)})


def with_changes(document: Any, **changes: Any) -> Any:
    for path, value in changes.items():
        *steps, last = path.split("__")
        at = document
        for step in steps:
            at = at.setdefault(step, {})
        at[last] = value
    return document


def faults(cache: Path, documents: dict[str, Any]) -> list[str]:
    """Each fault as text, without the folder."""
    with pytest.raises(BadInput) as bad:
        made(cache, documents)
    return [str(fault).replace(f"{cache}/", "") for fault in bad.value.faults]


def notes(original: Original) -> dict[str, str]:
    return {note.key: note.becomes for note in original.notes}


# nothing is dropped in silence


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value of a document that is not an object or a list itself, or is an empty one."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*path, key))
    if not items:
        yield path, value


def other(value: Any) -> Any:
    """A value of the same type that is another."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 0.0625
    return f"{value}x" if isinstance(value, str) else value


def replaced(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    at = document = copy.deepcopy(document)
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return document


@pytest.mark.parametrize("names", TOGETHER, ids="+".join)
def test_every_value_counts_or_is_named_in_a_note(cache: Path, names: tuple[str, ...]) -> None:
    """Each value is changed by itself: the experiment is another then, or a note (or a fault) names its key."""
    given = documents(*names)
    before = made(cache, given)
    silent = []
    for name in names:
        noted = {note.key for note in before.notes if Path(note.file).stem == name}
        for path, value in leaves(given[name]):
            if any(dotted(path[:length]) in noted for length in range(1, len(path) + 1)) or other(value) == value:
                continue
            try:
                after = made(cache, {**given, name: replaced(given[name], path, other(value))})
            except BadInput:
                continue
            if after.document == before.document:
                silent.append(f"{name}: {dotted(path)}")
        made(cache, given)
    assert silent == []


@pytest.mark.parametrize("names", TOGETHER, ids="+".join)
def test_a_key_that_is_not_known_is_named_wherever_it_stands(cache: Path, names: tuple[str, ...]) -> None:
    given = documents(*names)

    def objects(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
        if isinstance(value, dict):
            yield path
        for key, item in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            yield from objects(item, (*path, key))

    for name in names:
        noted = notes(made(cache, given))
        for path in objects(given[name]):
            if dotted(path[:1]) in noted or dotted(path[:2]) in noted or path[-1:] == ("custom_beliefs",):
                continue
            after = made(cache, {**given, name: replaced(given[name], (*path, "zeal"), 7)})
            assert dotted([*path, "zeal"]) in notes(after)


# what it becomes


@pytest.mark.parametrize("names", TOGETHER, ids="+".join)
def test_what_it_becomes_is_an_experiment_that_the_workload_takes(cache: Path, names: tuple[str, ...]) -> None:
    original = made(cache, documents(*names))
    path = original.write(cache / "experiments")
    experiment = load_experiment(path)
    assert experiment.raw == original.document
    ids = tuple(one.id for one in experiment.instances)
    for one in experiment.instances:
        peers = {} if one.network == "isolated" else {id: "http://peer" for id in ids if id != one.id}
        settings.Settings.of(
            Instance(
                "run", one.id, Path(), Path(), "", peers=peers, instances=ids, workload=dict(experiment.workload),
                config=dict(one.config), context_size=one.context_size,
            )
        )  # fmt: skip


def test_two_brains_are_two_instances_that_talk_and_share_no_node(cache: Path) -> None:
    document = made(cache, documents("twins_A", "twins_B")).document
    a, b = document["instances"]
    assert document["name"] == "twins_01_brain"
    assert document["workload"]["mode"] == "split_brain"
    assert (a["id"], b["id"]) == ("twins_01_brain_A", "twins_01_brain_B")
    assert a["network"] == b["network"] == "peers"
    assert b["anti_affinity"] == ["twins_01_brain_A"]
    assert a["config"]["identity"] == "You are the first of two."
    assert a["config"]["epistemic_frame"]["custom_beliefs"]["weight"] == 0.25
    assert document["workload"]["research_question"] == "Who yields?"
    assert "Twins, A: The one that is told it was first.\nIt shares a log" in document["description"]


def test_needs_come_from_resource_constraints(cache: Path) -> None:
    a, b = made(cache, documents("twins_A", "twins_B")).document["instances"]
    assert {key: a[key] for key in ("ram_gb", "gpu", "gpu_memory_gb", "context_size", "cpu_cores")} == {
        "ram_gb": 3.5,
        "gpu": "required",
        "gpu_memory_gb": 3.5,
        "context_size": 2048,
        "cpu_cores": 2,
    }
    assert "gpu" not in b
    assert made(cache, documents("forgetful")).document["instances"][0]["gpu"] == "preferred"


def test_a_hive_is_an_instance_a_role(cache: Path) -> None:
    document = made(cache, documents("choir")).document
    assert [one["id"] for one in document["instances"]] == ["soprano", "alto", "second_tenor"]
    assert {one["ram_gb"] for one in document["instances"]} == {2.5}
    assert document["instances"][1]["config"] == {
        "role": "alto",
        "perspective": "from within",
        "bias": "warmth",
        "concerns": "the blend",
    }
    assert document["workload"]["consensus_interval"] == 4
    (hoarse,) = document["workload"]["interventions"]
    assert hoarse["parameters"] == {"target_role": "alto"}
    assert document["model"] == {"path": str(cache / "models" / "tiny.gguf")}


def test_the_same_role_twice_is_two_members(cache: Path) -> None:
    original = changed(cache, "choir", hive_config={"roles": ["critic", "critic"]}, interventions=[])
    assert [one["id"] for one in original.document["instances"]] == ["critic", "critic_2"]


def test_players_get_their_memory_strategies_and_are_not_told_of_them(cache: Path) -> None:
    document = made(cache, documents("bargain_a", "bargain_b")).document
    a, b = (one["config"] for one in document["instances"])
    assert (a["memory_strategy"], b["memory_strategy"]) == ("none", "erase_betrayals")
    assert "memory_strategy" not in b["epistemic_frame"]["custom_beliefs"]
    workload = document["workload"]
    assert (workload["manipulation_rate"], workload["manipulation_start_round"]) == (0.5, 2)
    assert [one["intervention_id"] for one in workload["interventions"]] == ["doubt"]
    assert (workload["rounds"], workload["rounds_per_cycle"]) == (5, 1)
    assert document["design"] == {"same_type": ["bargain_01", "bargain_01_b"]}


def test_a_players_strategy_may_be_stated_by_the_interventions_alone(cache: Path) -> None:
    given = documents("bargain_a", "bargain_b")
    for document in given.values():
        document["epistemic_frame"]["custom_beliefs"] = {}
    a, b = (one["config"] for one in made(cache, given).document["instances"])
    assert (a["memory_strategy"], b["memory_strategy"]) == ("none", "erase_betrayals")


def test_a_full_panopticon_is_an_observer_that_reads_a_subject(cache: Path) -> None:
    original = made(cache, documents("tower"))
    below, above = original.document["instances"]
    assert original.document["workload"]["mode"] == "panopticon"
    assert above["observes"] == [below["id"]] == ["tower_01_below"]
    assert "network" not in below
    assert below["config"]["research_question"] == "Does it matter that somebody is there?"
    assert above["config"]["research_question"] == "What can be seen from above?"
    assert "ethical_notes" in notes(original)


def test_the_parts_of_a_panopticon_may_be_files_of_their_own(cache: Path) -> None:
    tower = documents("tower")["tower"]
    original = made(cache, {"below": tower["subject_config"], "above": tower["observer_config"]})
    assert original.document["instances"][1]["observes"] == ["tower_01_below"]
    alone = made(cache, {"below": tower["subject_config"]})
    assert alone.document["workload"]["mode"] == "conversation"


def test_minds_that_live_alone_live_side_by_side(cache: Path) -> None:
    document = made(cache, documents("lever", "adrift")).document
    assert document["name"] == "lever_01_adrift_01"
    assert document["workload"]["mode"] == "conversation"
    assert all("network" not in one for one in document["instances"])


def test_interventions_of_every_type_and_trigger_arrive(cache: Path) -> None:
    original = made(cache, documents("forgetful"))
    made_of = original.document["workload"]["interventions"]
    assert {one["intervention_type"] for one in made_of} == set(settings.INTERVENTIONS)
    assert {one["trigger"] for one in made_of} == set(settings.TRIGGERS)
    assert made_of[4]["parameters"] == {"max_tokens": 8, "temperature": 1.5}
    assert notes(original)["interventions[4].parameters.new_rate"] == "no effect"


def test_the_lists_of_the_schema_are_those_of_the_workload() -> None:
    schema = json.loads((HERE.parents[4] / "placement/adapters/schemas/original.json").read_text())
    intervention = schema["properties"]["interventions"]["items"]["properties"]
    assert intervention["intervention_type"]["enum"] == list(settings.INTERVENTIONS)
    assert intervention["trigger"]["enum"] == list(settings.TRIGGERS)
    assert schema["$defs"]["memory_strategy"]["enum"] == list(settings.MEMORY_STRATEGIES)
    parameters = {name for of in settings.PARAMETERS.values() for name in of} | set(settings.MIND)
    assert parameters <= set(intervention["parameters"]["properties"])
    frame = set(schema["properties"]["epistemic_frame"]["properties"])
    assert frame == {*settings.FRAME, "custom_beliefs"}


def test_an_end_that_the_original_does_not_have_is_reported(cache: Path) -> None:
    endless = made(cache, documents("foretold"))
    assert endless.document["workload"]["rounds"] == ENDLESS
    assert "stop.yml" in notes(endless)["max_cycles"]
    timed = made(cache, documents("forgetful"))
    assert timed.document["workload"]["max_duration_seconds"] == 90.5
    assert "max_cycles" not in timed.document["workload"]


def test_the_longer_of_two_decides_how_long_they_talk(cache: Path) -> None:
    given = documents("twins_A", "twins_B")
    given["twins_B"]["max_cycles"] = 5
    document = made(cache, given).document
    assert document["workload"]["rounds"] == 20
    assert [one["config"]["max_cycles"] for one in document["instances"]] == [2, 5]


def test_a_model_is_found_beside_the_file_and_below_the_current_folder(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "deep" / "er").mkdir(parents=True)
    (cache / "deep" / "er" / "own.gguf").write_bytes(b"GGUF")
    assert changed(cache, "lever", model_path="deep/er/own.gguf").document["model"]["path"] == str(
        cache / "deep/er/own.gguf"
    )
    monkeypatch.chdir(cache / "deep")
    assert changed(cache, "lever", model_path="er/own.gguf").document["model"]["path"] == str(
        cache / "deep/er/own.gguf"
    )
    nowhere = changed(cache, "lever", model_path="er/else.gguf")
    assert "model" not in nowhere.document
    assert "default_model" in notes(nowhere)["model_path"]


def test_ids_are_made_to_fit(cache: Path) -> None:
    original = changed(cache, "lever", experiment_id="7 levers: " + "long " * 20)
    (lever,) = original.document["instances"]
    assert lever["id"].startswith("x7_levers_long_")
    assert notes(original)["experiment_id"] == f"the instance is {lever['id']}"


# the file that is written


def test_the_file_says_whence_it_is_and_lists_the_notes_in_full(cache: Path) -> None:
    original = made(cache, documents("tower"))
    path = original.write(cache / "experiments")
    assert path.name.startswith("tower_01-")
    text = path.read_text()
    assert f"#   {cache / 'tower.json'} (sha256 {original.sources[str(cache / 'tower.json')]})" in text
    for note in original.notes:
        assert f"#   {note}" in text
        assert json.dumps(note.value) in str(note)
    assert yaml.safe_load(text) == original.document


def test_the_same_files_give_the_same_file_and_others_another(cache: Path) -> None:
    first = made(cache, documents("lever")).write(cache / "experiments")
    written = first.stat().st_mtime_ns
    assert made(cache, documents("lever")).write(cache / "experiments") == first
    assert first.stat().st_mtime_ns == written
    assert changed(cache, "lever", max_cycles=4).write(cache / "experiments") != first


def test_a_line_break_in_a_note_stays_in_the_header(cache: Path) -> None:
    original = changed(cache, "lever", zeal="one\ntwo\u2028three: [", name="# no\n---\nname: x")
    assert load_experiment(original.write(cache / "experiments")).raw == original.document


def test_the_table_says_what_is_alike_once(cache: Path) -> None:
    table = made(cache, documents("choir")).table
    assert "hive_config.instance_configs[*].port" in table
    assert "8001, 8002, 8003" in table
    assert len([line for line in table.splitlines() if "mode " in line]) == 1
    assert made(cache, documents("twins_A", "twins_B")).table.count("max_cycles") == 1


def test_a_table_of_many_configs_is_what_a_person_reads(cache: Path) -> None:
    one = documents("adrift")["adrift"]
    many = {
        f"c{n:02}": {**one, "experiment_id": f"c{n:02}", "mystery" if n < 25 else f"mystery_{n}": "x" * 400}
        for n in range(99)
    }
    original = made(cache, many)
    lines = original.table.splitlines()
    assert max(map(len, lines)) < 200
    assert len(lines) <= MOST_LINES + 2
    assert re.search(r"and \d+ more: the experiment file has all of them", lines[-1])
    assert len(original.text.splitlines()) > 99


# what is refused


def test_everything_wrong_is_named_at_once_with_its_file(cache: Path) -> None:
    given = documents("twins_A", "lever")
    with_changes(
        given["twins_A"], resource_constraints__ram_limit_gb="2 GB", epistemic_frame__can_die="yes", max_cycles=0
    )
    with_changes(given["lever"], interventions=[{"intervention_id": "x", "intervention_type": "torture"}], tags="none")
    assert faults(cache, given) == [
        "twins_A.json: resource_constraints.ram_limit_gb: '2 GB' is not a number; give the RAM in GB (2**30 bytes)",
        "twins_A.json: max_cycles: 0 does not have the right form; give a whole number of 1 or more, or null",
        "twins_A.json: epistemic_frame.can_die: 'yes' does not have the right form; give true, false or null",
        "lever.json: interventions[0].trigger: missing;"
        " give one of on_cycle, on_crash, on_resurrection, every_n_cycles, random",
        "lever.json: interventions[0].intervention_type: 'torture' is none of these;"
        f" give one of {', '.join(settings.INTERVENTIONS)}",
        "lever.json: tags: 'none' is not a list; give a list of texts",
    ]


@pytest.mark.parametrize(
    ("names", "changes", "expected"),
    [
        (["twins_A"], {}, "twins_A.json: mode: split_brain takes two, and the file of the other brain is missing"),
        (["bargain_b"], {}, "bargain_b.json: mode: prisoners_dilemma takes two, and the file of the other player is"),
        (["choir", "adrift"], {}, "choir.json: mode: hive_cluster does not go together with unstable_memory"),
        (["lever"], {"mode": "unstable_memroy"}, "no mode is named 'unstable_memroy'; did you mean 'unstable_memory'"),
        (["lever"], {"mode": "panopticon_observer"}, "the file of its subject (panopticon_subject) is missing"),
        (["lever"], {"mode": "hive_cluster"}, "lever.json: hive_config.roles: a hive has two members or more"),
        (["choir"], {"hive_config__num_instances": 4}, "hive_config.num_instances: 4, but there are 3 roles"),
        (
            ["choir"],
            {"hive_config__roles": ["alto", "bass"]},
            "instance_configs[0].role: 'soprano' is none of the roles",
        ),
        (["lever"], {"resource_constraints": {"context_window": 512}}, "max_tokens_per_response: 512 do not fit"),
        (
            ["tower"],
            {"coordinator_config__subject_id": "z"},
            "coordinator_config.subject_id: 'z' is not tower_01_below",
        ),
        (
            ["tower"],
            {"observer_config__mode_specific_config__subject_id": "z"},
            "'z' is the experiment_id of no subject",
        ),
        (["lever"], {"instances": []}, "lever.json: instances: this is an experiment file of Jarfleet"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(
    cache: Path, names: list[str], changes: dict[str, Any], expected: str
) -> None:
    given = documents(*names)
    with_changes(given[names[0]], **changes)
    assert any(expected in fault for fault in faults(cache, given)), faults(cache, given)


def test_an_intervention_without_what_its_trigger_needs_is_refused(cache: Path) -> None:
    given = documents("forgetful")
    for one in given["forgetful"]["interventions"]:
        one["trigger_params"] = {}
        one["intervention_id"] = "same"
    found = faults(cache, given)
    assert "forgetful.json: interventions[2].trigger_params.cycle: missing; the trigger on_cycle needs it" in found
    assert "forgetful.json: interventions[3].trigger_params.n: missing; the trigger every_n_cycles needs it" in found
    assert (
        "forgetful.json: interventions[6].intervention_id: 'same' is that of two interventions; give each its own"
        in found
    )


def test_players_who_contradict_each_other_are_refused(cache: Path) -> None:
    given = documents("bargain_a", "bargain_b")
    given["bargain_b"]["epistemic_frame"]["custom_beliefs"]["memory_strategy"] = "amplify_betrayals"
    given["bargain_b"]["interventions"][0]["parameters"]["player_a_memory_strategy"] = "random_corruption"
    found = "\n".join(faults(cache, given))
    assert "player a has two memory strategies" in found
    assert "player b has two memory strategies" in found
    given["bargain_b"] = with_changes(
        documents("bargain_b")["bargain_b"], epistemic_frame__custom_beliefs__player_id="a"
    )
    assert "both players are a" in "\n".join(faults(cache, given))


def test_the_same_id_in_two_files_is_refused(cache: Path) -> None:
    given = documents("lever")
    assert "experiment_id: the instance lever_01 is in" in faults(cache, {**given, "copy": given["lever"]})[0]


def test_a_file_that_cannot_be_read_is_named(cache: Path) -> None:
    (cache / "torn.json").write_text('{"experiment_id": ')
    (cache / "twice.json").write_text('{"experiment_id": "x", "mode": "split_brain", "mode": "lever"}')
    with pytest.raises(BadInput) as bad:
        read([str(cache / name) for name in ("torn.json", "twice.json", "none.json")], cache)
    torn, twice, none = map(str, bad.value.faults)
    assert "torn.json: Expecting value" in torn
    assert "twice.json: mode: this key is given twice" in twice
    assert "none.json: cannot be read: No such file or directory" in none


@pytest.mark.parametrize(
    ("given", "files"),
    [
        ("a.json", ["a.json"]),
        ("a.json, b.json", ["a.json", "b.json"]),
        (["a,b.json", "c.json"], ["a,b.json", "c.json"]),
    ],
)
def test_files_are_named_by_one_path_several_or_a_list(given: Any, files: list[str]) -> None:
    assert files_of(given) == files


@pytest.mark.parametrize("given", [[], "a.json,", {"a": "b"}, [1], [""], 7, None])
def test_what_names_no_file_is_refused(given: Any) -> None:
    with pytest.raises(BadInput, match=r"experiment_config: .* is neither a path"):
        files_of(given)
