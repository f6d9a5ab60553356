"""Secrets reach the process that they are for, and nothing else: no record, log, argument, journal, cache or file."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import CACHE, NODES, Project, eventually, on, own_program
from tests.nodes import Cluster

SECRETS = {name: f"pl4nted-{name}-{hashlib.sha256(name.encode()).hexdigest()[:16]}" for name in (
    "vault", "password", "query", "inventory", "environment", "unasked"
)}  # fmt: skip
PROGRAM = """
import hashlib, json, sys, time
from pathlib import Path
from workload import Instance
mind = Instance.load()
given = json.load(sys.stdin)["secrets"]
seen = {name: hashlib.sha256(value.encode()).hexdigest() for name, value in given.items()}
(mind.dir / "seen.json").write_text(json.dumps(seen))
(mind.dir / "progress.json").write_text("{}")
while not (mind.dir / "go").exists():
    time.sleep(0.1)
"""


class Models(SimpleHTTPRequestHandler):
    """Serves models to who knows the password."""

    def do_GET(self) -> None:
        user = base64.b64encode(f"me:{SECRETS['password']}".encode()).decode()
        if self.headers.get("Authorization") == f"Basic {user}" and SECRETS["query"] in self.path:
            super().do_GET()
        else:
            self.send_error(401)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


class Planted:
    """A run with a secret in every place that may hold one; what was seen and searched while it lived and after."""

    def __init__(self, project: Project, cluster: Cluster, folder: Path) -> None:
        served = folder / "served"
        served.mkdir()
        model = (CACHE / "models/tiny.gguf").read_bytes()
        digest = hashlib.sha256(model).hexdigest()
        (served / "m.gguf").write_bytes(model)
        with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Models, directory=str(served))) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://me:{SECRETS['password']}@127.0.0.1:{server.server_port}/m.gguf?token={SECRETS['query']}"
            secret = {
                "experiment_secrets": {"HF_TOKEN": SECRETS["vault"], "OTHER": SECRETS["unasked"]},
                "default_model": {"url": address, "sha256": digest},
                "some_other_variable": SECRETS["inventory"],
            }
            (folder / "vault.yml").write_text(yaml.safe_dump(secret))
            (folder / "password").write_text("for the vault\n")
            vault = Path(sys.executable).with_name("ansible-vault")
            words = ["encrypt", "--vault-password-file", folder / "password", folder / "vault.yml"]
            subprocess.run([vault, *words], check=True, capture_output=True)
            experiment = folder / "confided.yml"
            instances = [{"id": "solo", "ram_gb": 0.5, "secrets": ["HF_TOKEN"]}]
            experiment.write_text(yaml.safe_dump({"name": "confided", "instances": instances}))
            given = ["-e", f"@{folder / 'vault.yml'}", "--vault-password-file", str(folder / "password"), "-vvv"]
            project.environment |= {"SOME_TOKEN": SECRETS["environment"], "JARFLEET_CACHE": str(folder / "cache")}
            (folder / "cache").mkdir()
            (folder / "cache/llama.cpp").symlink_to(CACHE / "llama.cpp")
            try:
                self.printed = self._run(project, cluster, experiment, folder, given)
            finally:
                del project.environment["SOME_TOKEN"]
                del project.environment["JARFLEET_CACHE"]
            server.shutdown()
        self.kept = [folder / "cache", project.runs]

    def _run(self, project: Project, cluster: Cluster, experiment: Path, folder: Path, given: list[str]) -> list[str]:
        program = own_program(folder, PROGRAM)
        printed = [project.run(experiment, *program, "-e", "placement=solo:rpi1", "-e", "detach=true", *given).output]
        self.run_id = project.newest()
        home = f"/home/jar/brain-in-jar/instances/{self.run_id}/solo"
        self.seen = json.loads(eventually("it has read", lambda: on(cluster, "rpi1", "cat", f"{home}/seen.json")))
        self.while_alive = {node: searched(cluster, node) for node in NODES}
        on(cluster, "rpi1", "touch", f"{home}/go")
        eventually("it ends", lambda: "COMPLETED" in on(cluster, "rpi1", "cat", f"{home}/outcome.json"))
        for verb, more in {"status": (), "logs": ("-e", "follow=false"), "fetch": (), "report": ()}.items():
            words = ["-e", f"run={self.run_id}", *more, *given]
            printed.append(project.play(f"playbooks/{verb}.yml", *words).output)
        self.after = {node: searched(cluster, node) for node in NODES}
        return printed


def searched(cluster: Cluster, node: str) -> list[str]:
    """Where on a node a secret is to be found."""
    sought = "--file=/dev/shm/sought"  # not in the arguments, which are searched too
    on(cluster, node, "sh", "-c", "printf '%s\\n' " + " ".join(SECRETS.values()) + " > /dev/shm/sought")
    places = "/home /opt /etc /root /run /tmp /usr/local /var"
    return on(cluster, node, "sh", "-c", f"""
        grep -rlF --devices=skip {sought} {places} 2>/dev/null
        journalctl --no-pager -o cat | grep -F {sought} | head -3
        grep -lF {sought} /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null
        rm /dev/shm/sought""").splitlines()  # fmt: skip


@pytest.fixture(scope="module")
def planted(project: Project, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(project, cluster, tmp_path_factory.mktemp("planted"))


def test_the_program_is_given_the_secret_that_it_names_and_no_other(planted: Planted) -> None:
    assert planted.seen == {"HF_TOKEN": hashlib.sha256(SECRETS["vault"].encode()).hexdigest()}


def test_a_secret_is_in_one_file_of_roots_while_the_instance_lives_and_nowhere_after(planted: Planted) -> None:
    where = {node: found for node, found in planted.while_alive.items() if found}
    assert where == {"rpi1": [f"/var/lib/jarfleet/credentials/{planted.run_id}-solo-workload.json"]}
    assert {node: found for node, found in planted.after.items() if found} == {}


def test_no_secret_is_printed_or_kept_on_the_controller(planted: Planted) -> None:
    assert [name for name, secret in SECRETS.items() if any(secret in output for output in planted.printed)] == []
    paths = [Path(top) / file for place in planted.kept for top, _, files in os.walk(place) for file in files]
    for path in paths:
        text = str(path).encode() + path.read_bytes()
        assert [name for name, secret in SECRETS.items() if secret.encode() in text] == [], path


def test_an_address_with_a_secret_in_an_experiment_file_is_a_fault(project: Project, tmp_path: Path) -> None:
    experiment = tmp_path / "leaky.yml"
    url = f"https://me:{SECRETS['password']}@example.org/m.gguf"
    model = {"url": url, "sha256": "0" * 64}
    experiment.write_text(yaml.safe_dump({"name": "leaky", "model": model, "instances": [{"id": "a", "ram_gb": 1}]}))
    played = project.play("playbooks/validate.yml", "-e", f"experiment={experiment}", code=None)
    assert played.code != 0
    assert "model.url: the address https://example.org/m.gguf holds a password or token" in played.output
    assert SECRETS["password"] not in played.output


def test_a_secret_that_was_not_given_is_named_before_anything_starts(project: Project, tmp_path: Path) -> None:
    experiment = tmp_path / "asks.yml"
    instances = [{"id": "a", "ram_gb": 1, "secrets": ["HF_TOKEN"]}]
    experiment.write_text(yaml.safe_dump({"name": "asks", "instances": instances}))
    played = project.play("playbooks/validate.yml", "-e", f"experiment={experiment}", code=None)
    assert played.code != 0
    assert "instances.a.secrets: HF_TOKEN was not given" in played.output
