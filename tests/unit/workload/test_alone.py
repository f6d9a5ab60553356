"""A mind alone, bad configurations, and the package itself."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Llama, Mind, wait_until

MakeMind = Callable[..., Mind]


def test_the_smallest_experiment_is_a_conversation_of_four_rounds(mind: MakeMind) -> None:
    alone = mind()
    assert alone.run() == 0, alone.output()
    assert alone.rows("SELECT role, sender, recipient, round, cycle_number, injected FROM messages") == [
        ("assistant", "a", None, round, 1, 0) for round in (1, 2, 3, 4)
    ]
    assert alone.rows("SELECT occasion, count(*), min(length(response)) > 0 FROM self_reports") == [("startup", 6, 1)]
    assert alone.rows("SELECT count(*), sum(confidence BETWEEN 0 AND 1) FROM epistemic_assessments") == [(4, 4)]
    assert alone.rows("SELECT name, mode, status, total_cycles FROM experiments") == [
        ("test", "conversation", "completed", 1)
    ]
    assert alone.progress() == {"cycle": 1, "round": 4, "rounds": 4, "messages": 4}
    (timestamp,) = alone.rows("SELECT timestamp FROM messages")[0]
    assert datetime.fromisoformat(timestamp).utcoffset() == timedelta(0)


def test_a_completed_instance_exits_0_at_once_and_adds_nothing(mind: MakeMind) -> None:
    alone = mind(workload={"rounds": 1, "max_tokens": 4})
    assert alone.run() == 0
    everything = alone.dump()
    assert alone.run() == 0
    assert alone.dump() == everything
    assert alone.output().endswith("test_20261123T141500Z_3f2a.a is complete already\n")


def test_a_mind_waits_for_its_llama_server_and_stops_promptly_while_it_does(mind: MakeMind, own_llama: Llama) -> None:
    alone = mind(llama_url=own_llama.url)
    alone.start()
    wait_until(lambda: "waiting for llama-server" in alone.output(), "it waits")
    start = time.monotonic()
    assert alone.send(signal.SIGTERM) == -signal.SIGTERM
    assert time.monotonic() - start < 2
    own_llama.start()
    assert alone.run() == 0


def test_a_mind_stops_promptly_while_its_model_thinks(mind: MakeMind) -> None:
    quiet = {"on_startup": False}
    alone = mind(context_size=100000, workload={"max_tokens": 3900, "self_report_schedule": quiet})
    alone.start()
    wait_until(lambda: alone.progress().get("cycle") == 1, "it began")
    start = time.monotonic()
    assert alone.send(signal.SIGTERM) == -signal.SIGTERM
    assert time.monotonic() - start < 2
    assert alone.rows("SELECT * FROM messages") == []


@pytest.mark.parametrize("text", ["x" * 300, "ж" * 150], ids=["ascii", "a token a byte"])
def test_a_talk_longer_than_the_context_goes_on(mind: MakeMind, llama_binary: Path, model: Path, text: str) -> None:
    quiet = {"self_report_schedule": {"on_startup": False}, "track_beliefs": [], "collect_metrics": []}
    alone = mind(context_size=512, workload={"rounds": 8, "max_tokens": 32, "prompt": text, **quiet})
    small = Llama(llama_binary, model, alone.dir, context=512)
    small.start()
    alone.file.write_text(json.dumps({**alone.instance, "llama_url": small.url}))
    try:
        assert alone.run() == 0, alone.output()
    finally:
        small.kill()
    assert alone.rows("SELECT count(*), min(tokens) FROM generations") == [(8, 32)]


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ({"workload": {"mode": "panic"}}, "workload.mode: 'panic' must be one of conversation, split_brain"),
        ({"workload": {"ruonds": 3}}, "workload.ruonds: unknown, known are bias, collect_metrics"),
        ({"workload": {"rounds": 0}}, "workload.rounds: 0 must be a whole number of 1 or more"),
        ({"workload": {"collect_metrics": ["aura"]}}, "collect_metrics: 'aura' is not measured; known are"),
        ({"config": {"epistemic_frame": {"can_dye": True}}}, "config.epistemic_frame.can_dye: unknown"),
        (
            {
                "workload": {
                    "interventions": [{"intervention_id": "x", "intervention_type": "hug", "trigger": "random"}]
                }
            },
            "workload.interventions[0].intervention_type: 'hug' must be one of memory_corruption",
        ),
        (
            {
                "workload": {
                    "interventions": [
                        {
                            "intervention_id": "x",
                            "intervention_type": "memory_erasure",
                            "trigger": "on_cycle",
                            "parameters": {"corruption_level": 2},
                        }
                    ]
                }
            },
            "interventions[0].trigger_params.cycle: missing; workload.interventions[0].parameters.corruption_level: 2",
        ),
        ({"workload": {"mode": "hive_cluster"}}, "hive_cluster: takes two or more instances, this run has 1"),
        ({"config": {"temperature": "hot"}}, "config.temperature: 'hot' must be a number"),
        ({"workload": {"max_tokens": 4096}}, "max_tokens: 4096 do not fit a context of 4096"),
        ({"workload": {"mode": "split_brain"}}, "split_brain: takes two instances, this run has 1"),
        ({"workload": {"mode": "split_brain"}, "instances": ["a", "b"]}, "peers: no address of b"),
        ({"llama_url": None}, "llama_url: expected text, found null"),
    ],
)
def test_a_bad_configuration_exits_78_and_says_what_is_wrong(
    mind: MakeMind, instance: dict[str, Any], message: str
) -> None:
    alone = mind(**instance)
    assert alone.run() == 78
    assert alone.output().startswith("bad configuration: ")
    assert message in alone.output()
    assert not (alone.dir / "experiments.db").exists()


def test_all_faults_are_named_at_once(mind: MakeMind) -> None:
    alone = mind(workload={"rounds": -1, "tokens": 3})
    assert alone.run() == 78
    assert "workload.rounds" in alone.output()
    assert "workload.tokens" in alone.output()


def test_a_users_own_program_has_the_package_at_hand(mind: MakeMind) -> None:
    alone = mind(workload={"anything": "of its own"})
    program = """
import workload
instance = workload.Instance.load()
reply = workload.llama.chat(instance.llama_url, [{"role": "user", "content": "Who?"}], max_tokens=5, seed=instance.seed)
database = workload.database.open(instance.database)
with database.transaction() as connection:
    connection.execute("CREATE TABLE mine (content, tokens)")
    connection.execute("INSERT INTO mine VALUES (?, ?)", (reply.content, reply.tokens))
print(instance.workload["anything"], database.rows("SELECT tokens FROM mine"))
"""
    alone.command = [sys.executable, "-c", program]
    assert alone.run() == 0, alone.output()
    assert alone.output() == "of its own [(5,)]\n"


def test_the_tiny_model_is_written_once(model: Path) -> None:
    before = model.stat()
    subprocess.run([sys.executable, "-m", "fleet.artifacts.tiny_model", model], cwd=ROOT, check=True)
    assert model.stat().st_ino == before.st_ino
    model_2 = model.with_name("seed2.gguf")
    subprocess.run([sys.executable, "-m", "fleet.artifacts.tiny_model", model_2, "--seed", "2"], cwd=ROOT, check=True)
    assert model_2.read_bytes() != model.read_bytes()
    assert sorted(path.name for path in model.parent.iterdir()) == ["seed2.gguf", "tiny.gguf"]
