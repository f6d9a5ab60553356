"""Who may reach whom, who is who, and what a receipt says of it: peers, one of them compromised, and another run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import NODES, Project, eventually, on, own_program
from tests.nodes import Cluster

PROGRAM = Path(__file__).with_name("compromised_peer.py")
HIVE = {"mode": "hive_cluster", "rounds": 500, "pause_seconds": 0.2, "max_tokens": 8}
WHERE = {"a": "jetson", "b": "jetson", "c": "rpi1", "stranger": "jetson"}
FOLDER = "/home/jar/brain-in-jar/instances"


SOUGHT = "/dev/shm/sought"  # noqa: S108 - the keys, for grep: not in its arguments, which are searched too
SEARCHES = {
    "files": f"grep -rlF --devices=skip --file={SOUGHT} /home /opt /etc /var/log /run /tmp /var/lib 2>/dev/null",
    "journal": f"journalctl --no-pager -o cat | grep -F --file={SOUGHT}",
    "processes": f"grep -lF --file={SOUGHT} /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null",
    "modes": "stat -c '%a %U' /var/lib/jarfleet/credentials /var/lib/jarfleet/credentials/*",
}


class Peers:
    """A hive with a compromised member and an instance of another run on its node: what was found, until they ended."""

    def __init__(self, project: Project, cluster: Cluster, folder: Path) -> None:
        self.project, self.cluster = project, cluster
        self.runs: dict[str, str] = {}
        self.launched = self._launch(folder, "hive", ["a", "b", "c"], "peers", "9000", "-vvv")
        plan = json.loads((project.record(self.runs["a"]) / "plan.json").read_text())
        ports = [str(plan["ports"][id]["peer"]) for id in "ab"]
        self._launch(folder, "strange", ["stranger"], "open", *ports)
        self.found = {
            id: json.loads(eventually(f"{id} is done", lambda id=id: self.read(id, "findings.json")))
            for id in ("c", "stranger")
        }
        units = [f"{name}.service" for name in ("llama", "workload", "probe", "guard", "in", "to_b", "to_c")]
        prefix = f"jarfleet-{self.runs['a']}-a"
        looks = [
            on(cluster, "jetson", "systemd-analyze", "security", "--no-pager", f"{prefix}-{unit}") for unit in units
        ]
        levels = [re.search(r"Overall exposure level for \S+: ([0-9.]+)", text) for text in looks]
        self.exposure = {unit: float(level[1]) for unit, level in zip(units, levels, strict=True) if level}
        self.rounds = [json.loads(self.read(id, "progress.json"))["round"] for id in "ab"]
        kept = Path(project.environment["XDG_STATE_HOME"]) / "jarfleet/keys"
        path = kept / f"{self.runs['a']}.json"
        self.mode = path.stat().st_mode & 0o777
        known = [keys["workload"]["keys"] for keys in json.loads(path.read_text())["instances"].values()]
        self.keys = {key for keys in known for key in keys.values()}
        for node in ("jetson", "rpi1"):
            on(cluster, node, "sh", "-c", "printf '%s\\n' " + " ".join(self.keys) + f" > {SOUGHT}")
        self.searched = {
            node: {
                name: on(cluster, node, "sh", "-c", f"{search} || true").splitlines()
                for name, search in SEARCHES.items()
            }
            for node in ("jetson", "rpi1")
        }
        for run in dict.fromkeys(self.runs.values()):
            project.play("playbooks/stop.yml", "-e", f"run={run}")
            project.play("playbooks/fetch.yml", "-e", f"run={run}")
        folders = ["/var/lib/jarfleet/credentials", "/var/lib/jarfleet/probes", "/etc/systemd/system"]
        places = [*folders, "-name", f"*{self.runs['a']}*"]
        self.left = [str(path) for path in kept.iterdir()] + [
            line for node in self.searched for line in on(cluster, node, "find", *places).splitlines()
        ]

    def _launch(self, folder: Path, name: str, ids: list[str], network: str, *words: str) -> str:
        file = folder / f"{name}.yml"
        instances = [{"id": id, "ram_gb": 0.5, "network": network} for id in ids]
        file.write_text(yaml.safe_dump({"name": name, "instances": instances, "workload": HIVE}))
        (folder / name).mkdir()
        arguments = [word for word in words if not word.startswith("-")]
        options = [word for word in words if word.startswith("-")]
        pins = ",".join(f"{id}:{WHERE[id]}" for id in ids)
        given = [*own_program(folder / name, PROGRAM.read_text(), *arguments), "-e", f"placement={pins}"]
        output = self.project.run(file, *given, "-e", "detach=true", *options).output
        self.runs |= dict.fromkeys(ids, self.project.newest())
        return output

    def read(self, id: str, file: str) -> str:
        return on(self.cluster, WHERE[id], "sh", "-c", f"cat {FOLDER}/{self.runs[id]}/{id}/{file} 2>/dev/null")

    def receipt(self, id: str) -> dict[str, dict[str, Any]]:
        """{what was tried: what came of it}."""
        events = self.project.events(self.runs[id], "receipt")
        (receipt,) = [event["receipt"] for event in events if event["instance"] == f"{id}@{WHERE[id]}"]
        return {result["name"]: result for result in receipt["results"]}


@pytest.fixture(scope="module")
def peers(project: Project, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    project.environment["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    yield Peers(project, cluster, tmp_path_factory.mktemp("peers"))
    del project.environment["XDG_STATE_HOME"]


@pytest.fixture
def dropin(cluster: Cluster) -> Iterator[str]:
    """A place for a change of all of our services on a node; gone after the test."""
    folder = "/etc/systemd/system/jarfleet-.service.d"
    on(cluster, "rpi2", "mkdir", "-p", folder)
    yield f"{folder}/weak.conf"
    on(cluster, "rpi2", "rm", "-r", folder)
    on(cluster, "rpi2", "systemctl", "daemon-reload")


def test_a_compromised_peer_speaks_in_no_name_but_its_own_and_reaches_only_peers(peers: Peers) -> None:
    found = peers.found["c"]
    assert found.pop("write in its own name") == "200"
    assert found.pop("the keys that it has") == "a b"
    assert {name: got for name, got in found.items() if got != "403" and not got.startswith("refused")} == {}
    assert "b's name with its own key" in str([name for name, got in found.items() if got == "403"])


def test_another_run_is_no_peer_though_it_is_on_the_node_and_knows_the_run(peers: Peers) -> None:
    found = peers.found["stranger"]
    assert len(found) == 4
    assert {name: got for name, got in found.items() if got != "403" and not got.startswith("refused")} == {}
    assert "403" in found.values(), "it is heard, and not believed"


def test_each_unit_is_hardly_exposed_by_the_measure_of_systemd(peers: Peers) -> None:
    assert len(peers.exposure) == 7
    assert {unit: level for unit, level in peers.exposure.items() if level > 2.0} == {}


def test_the_honest_peers_go_on(peers: Peers) -> None:
    assert min(peers.rounds) >= 1


def test_a_receipt_says_what_each_network_reaches(peers: Peers) -> None:
    for id in ("a", "c"):
        results = peers.receipt(id)
        assert [name for name, result in results.items() if not result["kept"]] == []
        reached = {name for name, result in results.items() if name.startswith("reach ") and result["succeeded"]}
        assert reached == {"reach its llama-server", *(f"reach {other}" for other in {*"abc"} - {id})}
    open_to_all = peers.receipt("stranger")
    assert open_to_all["reach the SSH server at 10.77.0.12"]["succeeded"]
    assert open_to_all["reach the controller"]["succeeded"]
    assert any("of another run" in name for name in open_to_all)
    assert [name for name, result in open_to_all.items() if not result["kept"]] == []


def test_no_key_is_in_any_file_argument_environment_journal_or_output(peers: Peers) -> None:
    assert (len(peers.keys), peers.mode) == (3, 0o600)
    assert not any(key in peers.launched for key in peers.keys), "printed by -vvv"
    records = [path for path in peers.project.runs.rglob("*") if path.is_file()]
    assert [path for path in records if any(key.encode() in path.read_bytes() for key in peers.keys)] == []
    for node, count in {"jetson": 2, "rpi1": 1}.items():
        found = peers.searched[node]
        assert [file for file in found["files"] if not file.startswith("/var/lib/jarfleet/credentials/")] == []
        assert len(found["files"]) == count, "where it must be"
        assert (found["journal"], found["processes"]) == ([], [])
        assert found["modes"] == ["700 root", *["600 root"] * count]


def test_the_keys_and_the_units_go_with_the_run(peers: Peers) -> None:
    assert peers.left == []


def test_an_instance_whose_isolation_does_not_hold_never_runs(
    project: Project, cluster: Cluster, tmp_path: Path, dropin: str
) -> None:
    """Somebody has weakened all services of the node."""
    on(cluster, "rpi2", "sh", "-c", f"printf '[Service]\\nPrivateNetwork=no\\n' > {dropin}")
    experiment = tmp_path / "weak.yml"
    experiment.write_text(yaml.safe_dump({"name": "weak", "instances": [{"id": "solo", "ram_gb": 0.5}]}))
    program = own_program(
        tmp_path, "from pathlib import Path\nPath('/home/x').write_text('ran')\nprint('THE CODE RAN')\n"
    )
    played = project.run(experiment, *program, "-e", "placement=solo:rpi2", code=None)
    assert played.code != 0
    assert "its isolation does not hold: it could reach its node by the loopback: connected" in played.output
    assert "THE CODE RAN" not in played.output


def test_a_node_that_does_not_promise_enough_gets_nothing_unless_that_is_accepted(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    promises = "/run/jarfleet/promises.json"
    project.play("playbooks/health_check.yml")
    known = on(cluster, "rpi2", "cat", promises)
    try:
        weaker = json.loads(known)
        weaker["kept"]["memory_limit"] = False
        on(cluster, "rpi2", "sh", "-c", f"echo '{json.dumps(weaker)}' > {promises}")
        experiment = tmp_path / "weak.yml"
        experiment.write_text(yaml.safe_dump({"name": "weak", "instances": [{"id": "solo", "ram_gb": 0.5}]}))
        words = [*own_program(tmp_path, "print('THE CODE RAN')"), "-e", "placement=solo:rpi2"]
        refused = project.run(experiment, *words, code=None)
        assert refused.code != 0
        assert "DEGRADED, not HEALTHY" in refused.output
        assert "cgroup_enable=memory" in project.play("playbooks/status.yml").output
        accepted = project.run(experiment, *words, "-e", "accept_weaker_isolation=true")
        (receipt,) = project.events(accepted.run_id, "receipt")
        assert receipt["receipt"]["lacking"] == ["memory_limit"]
        assert (
            "does not promise that an instance gets no more memory"
            in (project.record(accepted.run_id) / "report.html").read_text()
        )
    finally:
        on(cluster, "rpi2", "sh", "-c", f"echo '{known}' > {promises}")


def test_what_all_nodes_promise_here_is_everything(project: Project, cluster: Cluster) -> None:
    project.play("playbooks/health_check.yml")
    for node in NODES:
        kept = json.loads(on(cluster, node, "cat", "/run/jarfleet/promises.json"))["kept"]
        assert set(kept.values()) == {True}, (node, kept)
