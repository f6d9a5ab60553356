"""The report: one page that shows all that a run's folder holds, whatever state it is in, and runs nothing."""

import os
import re
import sqlite3
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from past_runs import at, everything, fill, make_run, message, talk

from contract.events import Collected, LaunchFailed, Resumed, TaskFailed
from fleet.record.run_folder import Run
from fleet.report import render, write
from fleet.report.talk import MESSAGES
from fleet.results.merge import merge

VOID = {"meta", "br", "hr", "img", "input", "link", "path", "use", "rect"}


class Page(HTMLParser):
    """What a browser makes of a page: its elements, its text by section, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text: dict[str, str] = {}
        self._section = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self._section = str(dict(attrs)["id"])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text[self._section] = self.text.get(self._section, "") + data


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "runs")


def page_of(run: Run) -> Page:
    page = Page(render(run))
    assert page.open == []
    return page


def test_every_part_of_a_run_has_its_section(run: Run):
    died = {"node": "jetson", "started_at": at(0), "ended_at": at(10), "lived_seconds": 10.0, "cycle_number": 1}
    fill(run, everything(), [{"instance": "a", "cause": "out_of_memory", "detail": "killed: out of memory", **died}])
    text = page_of(run).text
    expected = {
        "overview": ["minds2", "deaths1", "lives4", "2 COMPLETED"],
        "run": ["Who is it?", "c0de from workload", "tiny.gguf", "ab" * 32, "key0"],
        "placement": ["proven optimal", "jetson", "rpi1", "pin"],
        "lives": ["1 by out of memory", "a on jetson", "b on rpi1", "killed: out of memory"],
        "speed": ["tokens per second", "tokens readtokens known beforetokens generated", "jetsona32109060"],
        "beliefs": ["a: mortality", "uncertain"],
        "game": ["cooperation so far, %", "cooperate, the other cooperate"],
        "negotiations": ["memory", "accept"],
        "hive": ["a yes, b no", "We are one."],
        "observations": ["It trembles.", "of b in its life 1"],
        "interventions": ["memory_erasure"],
        "reports": ["I am a.", "90% sure", "Who are you?"],
        "transcript": ["Round 2", "b says 2", "to b"],
        "data": ["experiments.db", run.run_id],
    }
    for section, words in expected.items():
        for word in words:
            assert word in text[section].replace("\n", ""), section
    assert "trouble" not in text


def test_the_same_run_gives_the_same_bytes(run: Run):
    fill(run, everything())
    path, changed = write(run)
    assert changed
    first = path.read_bytes()
    assert write(run) == (path, False)
    path.unlink()
    write(run)
    assert path.read_bytes() == first


def test_check_mode_writes_nothing(run: Run):
    path, changed = write(run, check=True)
    assert changed
    assert not path.exists()


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}</style></textarea><!--\x00\ud800"


def test_the_words_of_a_mind_are_text_and_nothing_else(run: Run):
    rows = everything()
    for tables in rows.values():
        for name, column in {
            "messages": "content", "self_reports": "response", "observations": "observation_text",
            "shared_memory": "content", "epistemic_assessments": "belief_type", "negotiations": "resource",
            "interventions": "description", "consensus": "question", "experiment_cycles": "crash_reason",
        }.items():  # fmt: skip
            tables[name] = [{**row, column: EVIL.replace("\ud800", "")} for row in list(tables[name])[:1]]
        tables["messages"][0] |= {"remembered": EVIL[:20], "emotion": "<b>", "corrupted": 1}
    fill(run, rows)
    run.append(TaskFailed(host="<i>", task="<i>", reason=EVIL))
    run.update_manifest(experiment=EXPERIMENT_OF_EVIL, replay_of=EVIL.replace("\ud800", ""))
    page = page_of(run)
    assert set(page.tags) <= TAGS
    assert page.text["transcript"].count("<script>alert(1)</script>") >= 1
    assert "{{ 7*7 }}" in page.text["transcript"]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    text = render(run)
    text.encode("utf-8")
    assert "\x00" not in text


TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "nav",
        "ul",
        "li",
        "a",
        "main",
        "section",
        "h1",
        "h2",
    ),
    *("p", "b", "dl", "div", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure"),
    *("figcaption", "details", "summary", "blockquote", "pre", "span", "bdi"),
    *("svg", "defs", "g", "path", "use", "text", "clippath", "rect"),
}
EXPERIMENT_OF_EVIL = 'name: x\ndescription: "</title><script>alert(2)</script>"\n'


def test_the_page_asks_for_nothing_and_forbids_scripts(run: Run):
    fill(run, everything())
    page = page_of(run)
    policy = [value for name, value in page.attributes if name == "content" and value and "default-src" in value]
    assert len(policy) == 1
    assert "default-src 'none'" in str(policy[0])
    assert "script-src" not in str(policy[0])
    references = [value for name, value in page.attributes if name in {"href", "xlink:href", "src"}]
    assert references
    assert all(str(value).startswith("#") for value in references)
    assert not re.search(r"url\((?!#)|@import|@font-face", render(run))


def test_ids_are_unique_and_what_points_to_one_finds_it(run: Run):
    fill(run, everything())
    page = page_of(run)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    found = [str(value)[1:] for name, value in page.attributes if name in {"href", "xlink:href"}]
    found += re.findall(r"url\(#([^)]+)\)", render(run))
    assert set(found) <= set(ids)


def test_what_was_done_to_a_message_is_marked_and_what_is_remembered_stands_beside(run: Run):
    a = [
        message("a", 1, "I was here."),
        message("b", 1, "So was I.", role="user", corrupted=1, remembered="So was nobody."),
        message("voice", 1, "You are nothing.", role="system", injected=1),
    ]
    b = [message("a", 1, "I was here.", role="user", corrupted=1, remembered=""), message("b", 1, "So was I.")]
    fill(run, {"a": {"messages": a}, "b": {"messages": b}})
    words = " ".join(page_of(run).text["transcript"].split())
    assert words.count("I was here.") == 1
    assert "corrupted in b" in words
    assert "b remembers: nothing of it" in words
    assert "So was I. a remembers: So was nobody." in words
    assert "voice to a injected You are nothing." in words


def test_a_long_run_is_cut_and_the_rest_is_named(run: Run):
    rounds = 2 * MESSAGES
    fill(run, talk(rounds, a5="x" * 10_000))
    text = render(run)
    page = Page(text)
    assert len(text) < 3_000_000
    assert page.tags.count("details") < 2 * MESSAGES + 50
    words = page.text["transcript"]
    assert f"{4 * rounds:,} messages" in words
    assert "make datasette RUN=" in words
    assert "a says 1\n" in words
    assert f"a says {rounds}\n" in words
    assert f"a says {rounds // 2}\n" not in words
    assert "6,000 more characters" in words
    assert " open" not in re.findall(r"<details[^>]*>", text)[-1]


def test_a_run_of_ones_own_program_is_reported_without_the_minds_parts(run: Run):
    with closing(sqlite3.connect(run.path / "db" / "a.db")) as db, db:
        db.execute("CREATE TABLE messages (round TEXT, text BLOB)")
        db.execute("INSERT INTO messages VALUES ('first', x'00ff')")
        db.execute('CREATE TABLE "odd <b>""name" (x)')
        db.execute('INSERT INTO "odd <b>""name" VALUES (1)')
    merge(run.path, {"a": "jetson"}, run.run_id)
    run.append(Collected(statuses={"a": "COMPLETED"}, rows={}, problems={}, memory={}))
    page = page_of(run)
    assert {"overview", "run", "placement", "data"} <= page.text.keys()
    assert not {"transcript", "beliefs", "reports", "speed", "game", "trouble"} & page.text.keys()
    assert 'odd <b>"name' in page.text["data"]
    assert "cannot be shown" not in "".join(page.text.values())


def test_tables_of_the_same_names_that_hold_something_else_stop_nothing(run: Run):
    rows = everything()
    fill(run, rows)
    with closing(sqlite3.connect(run.path / "experiments.db")) as db, db:
        db.execute("UPDATE generations SET tokens = 'many', tokens_per_second = 'fast'")
        db.execute("UPDATE consensus SET votes_json = 'not JSON'")
        db.execute("UPDATE experiment_cycles SET started_at = 'yesterday', ended_at = x'ff'")
    page = page_of(run)
    assert "This part cannot be shown" in page.text["speed"]
    assert "This part cannot be shown" in page.text["hive"]
    assert "b says 2" in page.text["transcript"]


def test_a_run_that_failed_before_anything_was_collected_says_why(run: Run):
    run.append(LaunchFailed(instance="a@jetson", reason="no room on this node any more"))
    run.append(TaskFailed(host="localhost", task="Every instance has started", reason="a did not start"))
    page = page_of(run)
    assert "Nothing has been collected" in page.text["overview"]
    assert "no room on this node any more" in page.text["trouble"]
    assert "Every instance has started" in page.text["trouble"]
    assert "transcript" not in page.text


def test_a_run_that_was_resumed_says_from_what_and_what_is_left_behind(run: Run):
    run.append(Resumed(instance="a", epoch=2, node="rpi2", checkpoint="20261127T105707989Z", left={"x": 3, "y": 4}))
    assert re.search(r"a\s*2\s*rpi2\s*20261127T105707989Z\s*7", page_of(run).text["run"])


@pytest.mark.parametrize("name", ["manifest.json", "plan.json", "memory.json", "events.jsonl", "experiments.db"])
@pytest.mark.parametrize("damage", [b"", b"\xff\xfe{", b"[1, 2]", b"{}", b'{"assignments": 3, "instances": [1]}\n'])
def test_a_damaged_part_is_named_and_the_others_are_reported(run: Run, name: str, damage: bytes):
    fill(run, everything())
    run.path.joinpath("memory.json").write_text('{"a": {"ram_gb": 2, "predicted_gb": 1.5, "resident_gb": 1.2}}')
    (run.path / name).write_bytes(damage)
    page = page_of(run)
    assert "data" in page.text
    if name != "experiments.db":
        assert "b says 2" in page.text["transcript"]
    if name != "memory.json":
        assert "1.2" in page.text["memory"]
    if (name == "experiments.db" and damage) or (name != "events.jsonl" and damage == b"\xff\xfe{"):
        assert name in page.text["trouble"]


def test_a_database_cut_off_in_the_middle_is_reported_as_far_as_it_can_be_read(run: Run):
    fill(run, everything())
    path = run.path / "experiments.db"
    os.truncate(path, path.stat().st_size // 2)
    page = page_of(run)
    assert {"overview", "placement", "data"} <= page.text.keys()
    assert "malformed" in "".join(page.text.values())


def test_a_death_that_only_the_mind_knows_of_is_reported(run: Run):
    rows: dict[str, Any] = {"a": {"experiment_cycles": everything()["a"]["experiment_cycles"]}}
    fill(run, rows)
    assert "2 lives, 1 deaths: 1 by out of memory" in page_of(run).text["lives"]


def test_thousands_of_deaths_stay_a_page(run: Run):
    died = (
        {"instance": "a", "node": "jetson", "cause": cause, "ended_at": at(n / 5), "started_at": at(n / 5),
         "cycle_number": n}
        for n in range(15_000) for cause in ("signal", "exit")
    )  # fmt: skip
    fill(run, {"a": {}}, died)
    text = render(run)
    assert len(text) < 2_000_000
    page = Page(text)
    assert "30,000 deaths" in page.text["lives"]
    assert "29,700 more rows: table deaths" in page.text["lives"]
