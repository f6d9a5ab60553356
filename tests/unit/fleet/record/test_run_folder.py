"""A run's folder: what is written there is whole, and what is asked of it is answered or refused clearly."""

import json
import multiprocessing
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from contract.events import Collected, Created, Died, Launched, LaunchFailed
from fleet.base.errors import RunError
from fleet.record.manifest import build_manifest, canonical_sha256
from fleet.record.run_folder import Run, list_runs, new_run_id

MOMENT = datetime(2026, 11, 23, 14, 15, 0, tzinfo=UTC)
FIRST = "split_brain_20261123T141500Z_3f2a"
SECOND = "split_brain_20261123T141501Z_0000"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs", FIRST, {"experiment": "name: x\n"}, {"assignments": {"a": "rpi1"}})


class Tagged(str):
    """As Ansible's strings are: a subclass that carries where it came from."""


class TaggedDict(dict):
    """As Ansible's mappings are."""


def test_a_run_id_is_experiment_utc_time_and_four_hex_digits():
    assert re.fullmatch(r"split_brain_20261123T141500Z_[0-9a-f]{4}", new_run_id("split_brain", MOMENT))


def test_a_run_id_is_in_utc_whatever_the_zone_of_the_clock():
    there = MOMENT.astimezone(timezone(timedelta(hours=9)))
    assert "_20261123T141500Z_" in new_run_id("x", there)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(RunError, match="no time zone"):
        new_run_id("x", datetime(2026, 1, 1))


@pytest.mark.parametrize("name", ["split-brain", "../../etc", "a b.c", "naïve", "x" * 300])
def test_a_run_id_never_holds_what_a_slice_or_a_folder_would_misread(name: str, tmp_path: Path):
    run_id = new_run_id(name)
    assert re.fullmatch(r"[A-Za-z0-9_]+", run_id)
    assert len(run_id) <= 110
    assert Run.create(tmp_path, run_id, {}, {}).path.parent == tmp_path


def test_an_experiment_of_punctuation_only_cannot_name_a_run():
    with pytest.raises(RunError, match="rename the experiment"):
        new_run_id("--/--")


def test_a_new_run_has_its_files_its_folders_and_its_first_event(run: Run):
    assert {path.name for path in run.path.iterdir()} == {"manifest.json", "plan.json", "events.jsonl", "logs", "db"}
    assert run.manifest["experiment"] == "name: x\n"
    assert run.manifest["run_id"] == FIRST
    assert run.plan == {"assignments": {"a": "rpi1"}}
    assert [event.kind for _, event in run.events()] == ["created"]


def test_a_run_is_never_overwritten(run: Run):
    with pytest.raises(RunError, match="exists already"):
        Run.create(run.path.parent, FIRST, {}, {})
    assert run.manifest["experiment"] == "name: x\n"


def test_even_an_empty_folder_of_that_name_is_not_taken_over(tmp_path: Path):
    (tmp_path / FIRST).mkdir()
    with pytest.raises(RunError, match="so it is no record"):
        Run.create(tmp_path, FIRST, {}, {})


def test_a_manifest_that_is_not_json_leaves_no_half_a_run(tmp_path: Path):
    with pytest.raises(RunError, match="not JSON"):
        Run.create(tmp_path, FIRST, {"when": object()}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "run_id",
    ["", "..", "../x", "/etc", f"../{FIRST}", f"{FIRST}/", f"{FIRST}\n", "x", "split-brain_20261123T141500Z_3f2a"],
)
def test_a_bad_run_id_makes_and_opens_nothing(run_id: str, tmp_path: Path, run: Run):
    folder = tmp_path / "fresh"
    with pytest.raises(RunError, match="run id"):
        Run.create(folder, run_id, {}, {})
    assert not folder.exists()
    with pytest.raises(RunError, match="no run"):
        Run.open(run.path.parent, run_id)


def test_a_run_that_is_missing_is_answered_with_the_one_that_was_meant(run: Run):
    with pytest.raises(RunError, match=f"did you mean {FIRST}"):
        Run.open(run.path.parent, FIRST.replace("3f2a", "3f2b"))
    with pytest.raises(RunError, match=f"did you mean {FIRST}"):
        Run.open(run.path.parent, "split_brain")


def test_a_run_unlike_any_other_is_answered_with_those_that_exist(run: Run):
    with pytest.raises(RunError, match=f"the newest are {FIRST}"):
        Run.open(run.path.parent, "qqq")


def test_where_there_are_no_runs_the_fault_says_so(tmp_path: Path):
    with pytest.raises(RunError, match="no runs yet"):
        Run.open(tmp_path / "none", "latest")


def test_latest_is_the_newest_by_time_not_by_name(tmp_path: Path):
    for run_id in ("z_20250101T000000Z_ffff", "a_20260101T000000Z_0000", "m_20251231T235959Z_ffff"):
        Run.create(tmp_path, run_id, {}, {})
    assert Run.open(tmp_path, "latest").run_id == "a_20260101T000000Z_0000"
    assert [run.run_id[0] for run in list_runs(tmp_path)] == ["a", "m", "z"]


def test_of_two_runs_in_one_second_latest_is_the_later_made(tmp_path: Path):
    Run.create(tmp_path, "b_20260101T000000Z_ffff", {}, {})
    Run.create(tmp_path, "a_20260101T000000Z_0000", {}, {})
    assert Run.open(tmp_path, "latest").run_id == "a_20260101T000000Z_0000"


def test_other_things_in_the_runs_folder_are_no_runs(run: Run):
    (run.path.parent / "notes.txt").write_text("mine")
    (run.path.parent / SECOND).mkdir()
    assert [found.run_id for found in list_runs(run.path.parent)] == [FIRST]


def test_updating_the_manifest_keeps_what_it_does_not_name(run: Run):
    run.update_manifest(code={"hash": "abc"}, run_id="forged")
    assert Run.open(run.path.parent, FIRST).manifest | {"created_at": ""} == {
        "experiment": "name: x\n",
        "code": {"hash": "abc"},
        "run_id": FIRST,
        "created_at": "",
    }


@pytest.mark.parametrize("bad", [float("nan"), "\ud800"], ids=["no JSON", "no UTF-8"])
def test_a_failed_update_leaves_the_manifest_as_it_was(run: Run, bad: object):
    before = (run.path / "manifest.json").read_bytes()
    with pytest.raises(RunError, match="not JSON"):
        run.update_manifest(bad=bad)
    assert (run.path / "manifest.json").read_bytes() == before
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]


def test_a_damaged_manifest_is_named(run: Run):
    (run.path / "manifest.json").write_text("{")
    with pytest.raises(RunError, match=r"manifest\.json: cannot be read"):
        _ = run.manifest


def test_the_json_is_sorted_and_readable(run: Run):
    run.update_manifest(b=1, a={"z": 1, "y": "ü"})
    text = (run.path / "manifest.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_tagged_strings_and_mappings_are_written_as_what_they_say(run: Run):
    run.update_manifest(code=TaggedDict({Tagged("hash"): Tagged("abc")}))
    run.append(Launched(Tagged("a")))
    assert run.manifest["code"] == {"hash": "abc"}
    assert run.events()[-1].event == Launched("a")


def test_events_keep_their_order_and_their_time(run: Run):
    for number in range(3):
        run.append(Died("a", "llama", number, "two\nlines"))
    found = run.events()[1:]
    assert [event for _, event in found] == [Died("a", "llama", number, "two\nlines") for number in range(3)]
    assert [time for time, _ in found] == sorted(time for time, _ in found)
    assert all(datetime.fromisoformat(time).utcoffset() == timedelta(0) for time, _ in found)


def test_an_event_that_is_not_json_is_refused(run: Run):
    with pytest.raises(RunError, match="is not JSON"):
        run.append(Collected(memory={"a": {1, 2}}))
    assert len(run.events()) == 1


def test_a_torn_line_costs_that_line_only(run: Run):
    with (run.path / "events.jsonl").open("a") as file:
        file.write('{"time": "2026", "eve')
    run.append(Created("after"))
    assert [event.kind for _, event in run.events()] == ["created", "unreadable", "created"]


def _write_events(path: Path, writer: int) -> None:
    run = Run(path)
    for number in range(20):
        run.append(LaunchFailed(f"{writer}", "x" * 3000))
        run.update_manifest(**{f"writer{writer}": number})


def test_writers_at_once_lose_nothing(run: Run):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_events, args=(run.path, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    events = run.events()[1:]
    assert len(events) == 80
    assert all(isinstance(event, LaunchFailed) for _, event in events)
    assert [run.manifest[f"writer{number}"] for number in range(4)] == [19] * 4


def test_a_canonical_hash_knows_no_order_of_keys_but_one_of_lists():
    assert canonical_sha256({"a": 1, "b": [1, 2]}) == canonical_sha256({"b": [1, 2], "a": 1})
    assert canonical_sha256([1, 2]) != canonical_sha256([2, 1])
    assert canonical_sha256({"a": Tagged("x")}) == canonical_sha256({"a": "x"})


def test_a_manifest_holds_what_it_takes_to_repeat_a_run():
    parts = {"code": {"hash": "h", "source": ""}, "models": {}, "llama_cpp": {"n": "k"}, "inventory": {}}
    manifest = build_manifest(experiment="name: x\n", plan={"a": 1}, versions={"ansible": "2.19"}, **parts)
    # printf 'name: x\n' | sha256sum
    assert manifest["experiment_sha256"] == "a2a79ea37edb1963efaae29281523ab441a8a99df048d204f22f3f413e325afc"
    assert manifest["plan_sha256"] != build_manifest(experiment="", plan={"a": 2}, **parts)["plan_sha256"]
    assert {"jarfleet", "python", "ansible"} <= set(manifest["versions"])
