"""Real llama-servers and real minds, as processes on this machine's loopback."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from workload.peers import Peer

ROOT = Path(__file__).parents[3]


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 20) -> None:
    """Return as soon as `condition` holds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.01)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody uses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def accepts(port: int) -> bool:
    """Whether somebody listens at the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def pair_key(one: str, other: str) -> str:
    """The key of two instances."""
    return hashlib.sha256("-".join(sorted((one, other))).encode()).hexdigest()


class Process:
    """A process that can be started again, with all it ever printed in one file."""

    def __init__(
        self,
        command: list[str],
        log: Path,
        environment: dict[str, str] | None = None,
        keys: dict[str, str] | None = None,
    ) -> None:
        self.command, self.log, self.environment = command, log, environment or {}
        self.keys = keys or {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log, tempfile.TemporaryFile() as keys:
            keys.write(json.dumps({"keys": self.keys}).encode())
            keys.seek(0)
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdin=keys,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def send(self, number: int) -> int:
        """Send a signal and return the exit status."""
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(10)

    def wait(self, timeout: float = 30) -> int:
        assert self.process
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout} s, and had printed:\n{self.output()}")

    def run(self, timeout: float = 30) -> int:
        self.start()
        return self.wait(timeout)

    def output(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.send(signal.SIGKILL)


class Llama(Process):
    """A llama-server."""

    def __init__(self, binary: Path, model: Path, folder: Path, context: int = 4096) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        flags = f"--host 127.0.0.1 --port {self.port} -c {context} -np 1 --cache-ram 0 -t 1"
        super().__init__([str(binary), "-m", str(model), *flags.split()], folder / f"llama-{self.port}.log")


class Mind(Process):
    """An instance of the workload."""

    def __init__(self, folder: Path, **instance: Any) -> None:
        self.dir = folder / instance["id"]
        self.dir.mkdir(parents=True)
        self.instance = {"run_id": "test_20261123T141500Z_3f2a", "experiment": "test", "dir": str(self.dir), **instance}
        self.file = self.dir / "instance.json"
        self.file.write_text(json.dumps(self.instance))
        own, known = instance["id"], [*instance.get("peers", {}), *instance.get("observes", {})]
        super().__init__(
            [sys.executable, "-m", "workload"],
            self.dir / "workload.log",
            {"JARFLEET_INSTANCE": str(self.file)},
            {other: pair_key(own, other) for other in known},
        )

    def describe(self, **changes: Any) -> None:
        """Have it be something else when it is started the next time."""
        self.file.write_text(json.dumps({**self.instance, **changes}))

    def ended(self) -> bool:
        """Whether its process has ended."""
        return self.process is not None and self.process.poll() is not None

    def thoughts(self) -> int:
        """How often it has asked its model."""
        return len(self.rows("SELECT 1 FROM generations")) if (self.dir / "experiments.db").exists() else 0

    def peer(self, other: str) -> Peer:
        """This mind, as another one talks to it."""
        return Peer(self.instance["id"], f"http://127.0.0.1:{self.instance['port']}", other, self.keys[other])

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database holds, none if there is no such table yet."""
        with contextlib.closing(sqlite3.connect(f"file:{self.dir}/experiments.db?mode=ro", uri=True)) as connection:
            try:
                return connection.execute(query, values).fetchall()
            except sqlite3.OperationalError:
                return []

    def exists(self, query: str, *values: object) -> bool:
        return (self.dir / "experiments.db").exists() and bool(self.rows(query, *values))

    def has(self, sender: str, round: int, topic: str = "say") -> bool:
        """Whether this message is in its database."""
        query = "SELECT 1 FROM letters WHERE sender = ? AND round = ? AND topic = ?"
        return self.exists(query, sender, round, topic)

    def is_past(self, round: int) -> bool:
        """Whether this round is over."""
        return self.exists("SELECT 1 FROM system_metrics WHERE round = ?", round)

    def dump(self) -> list[str]:
        """Everything in its database."""
        with contextlib.closing(sqlite3.connect(self.dir / "experiments.db")) as connection:
            return list(connection.iterdump())

    def talk(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT sender, round, content FROM messages WHERE NOT injected ORDER BY round, sender")

    def progress(self) -> dict[str, int]:
        try:
            return json.loads((self.dir / "progress.json").read_text())
        except FileNotFoundError:
            return {}


def live_through_kills(minds: list[Mind], llama: Llama, seed: int) -> None:
    """Start these minds and their llama-server, kill any of them at random moments, and see every mind to its end."""
    rng, everyone = random.Random(seed), [llama, *minds]  # noqa: S311 - a test that can be repeated
    for each in everyone:
        each.start()
    kills, end = 0, time.monotonic() + 60
    # A mind needs 0.1 s to come up: these delays reach it while it starts, talks, waits and parts.
    while any(each.process.poll() != 0 for each in minds):
        assert time.monotonic() < end, "\n".join(each.output() for each in minds)
        victim = rng.choice(everyone)
        if kills < 15 and victim.process.poll() is None:
            time.sleep(rng.uniform(0, 0.35))  # not a wait for anything: the random moment itself
            victim.send(signal.SIGKILL)
            kills += 1
        for each in everyone:
            if each.process.poll() not in (None, 0):
                each.start()
        time.sleep(0.01)
    assert kills  # the first one always: how many more there are is the machine's speed


def runs_here(build: Path) -> bool:
    """Whether a build is for this processor, by its compiler's triple."""
    return json.loads(build.read_text())["triple"].startswith(platform.machine())


@pytest.fixture(scope="session")
def llama_binary() -> Path:
    """The llama-server: $JARFLEET_LLAMA_SERVER, or the newest one in the cache."""
    if named := os.environ.get("JARFLEET_LLAMA_SERVER"):
        found = [Path(named)]
    else:
        cache = Path(os.environ.get("JARFLEET_CACHE") or "~/.cache/jarfleet").expanduser()
        builds = sorted(cache.glob("llama.cpp/builds/*/build.json"), key=lambda path: path.stat().st_mtime)
        found = [path.parent / "bin/llama-server" for path in builds if runs_here(path)]
    if not found or not os.access(found[-1], os.X_OK):
        pytest.fail(
            f"no llama-server at {named}"
            if named
            else f"no llama-server for this machine in {cache}/llama.cpp/builds: `make llama` builds one,"
            " or name one in JARFLEET_LLAMA_SERVER"
        )
    return found[-1]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    subprocess.run([sys.executable, "-m", "fleet.artifacts.tiny_model", path], cwd=ROOT, check=True)
    return path


@pytest.fixture(scope="session")
def llama(llama_binary: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    """A llama-server that stays up."""
    server = Llama(llama_binary, model, tmp_path_factory.mktemp("llama"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_llama(llama_binary: Path, model: Path, tmp_path: Path) -> Iterator[Llama]:
    """A llama-server, not started, that a test may kill."""
    server = Llama(llama_binary, model, tmp_path)
    yield server
    server.kill()


@pytest.fixture
def mind(tmp_path: Path, llama: Llama) -> Iterator[Callable[..., Mind]]:
    """Makes a mind on its own; what is given is put into its instance.json."""
    minds: list[Mind] = []

    def make(folder: str = ".", **instance: Any) -> Mind:
        minds.append(Mind(tmp_path / folder, **{"id": "a", "llama_url": llama.url, **instance}))
        return minds[-1]

    yield make
    for each in minds:
        each.kill()


@pytest.fixture
def together(mind: Callable[..., Mind]) -> Callable[..., list[Mind]]:
    """Makes minds that can reach each other; what is given is put into their workload, `each` into one's config."""

    def make(
        ids: str,
        mode: str,
        folder: str = ".",
        llama_url: str | None = None,
        each: dict[str, dict[str, Any]] | None = None,
        **workload: Any,
    ) -> list[Mind]:
        ports = dict(zip(ids, free_ports(len(ids)), strict=True))
        workload = {"mode": mode, "rounds": 4, "max_tokens": 8, "linger_seconds": 2, **workload}
        workload.setdefault("self_report_schedule", {"on_startup": False, "after_resurrection": False})
        workload.setdefault("track_beliefs", [])
        workload.setdefault("collect_metrics", [])
        common = {"instances": list(ids), "workload": workload, **({"llama_url": llama_url} if llama_url else {})}
        return [
            mind(
                folder,
                id=own,
                port=ports[own],
                peers={other: f"http://127.0.0.1:{ports[other]}" for other in ids if other != own},
                config={"identity": f"You are {own}, the original.", **(each or {}).get(own, {})},
                **common,
            )
            for own in ids
        ]

    return make


@pytest.fixture
def pair(together: Callable[..., list[Mind]]) -> Callable[..., list[Mind]]:
    """Makes two minds that talk; what is given is put into their workload."""
    return lambda **workload: together("ab", "split_brain", **workload)
