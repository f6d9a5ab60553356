"""Nodes with a full or read-only disk, a locked database, a damaged model, IPv6; and what users' programs need."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import Project, eventually, on, own_program, write_experiment
from tests.integration.test_30_crashes import main_pid
from tests.nodes import Cluster

WORK = "/home/jar/brain-in-jar"
FULL = f"{WORK}/full"


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """An experiment of one instance."""
    path = tmp_path / "one.yml"
    path.write_text("name: one\ninstances: [{id: a, ram_gb: 0.5}]\n")
    return path


@pytest.fixture
def mended(cluster: Cluster) -> Iterator[None]:
    """What is mounted over folders of nodes is gone afterwards, and what was changed in /etc."""
    yield
    for node in ("jetson", "rpi1", "rpi2"):
        on(cluster, node, "sh", "-c", MEND)


MEND = f"""
systemctl stop 'jarfleet*'
umount --lazy --recursive {WORK} /opt/llama.cpp 2>/dev/null
sed -i '/^umask 077$/d' /home/jar/.bashrc
rm -f /etc/sudoers.d/zz_password /etc/systemd/journald.conf.d/none.conf
chown -R jar {WORK}/models
"""


def test_a_node_that_cannot_run_instances_says_why_and_the_fit_one_is_taken(
    project: Project, cluster: Cluster, one: Path, mended: None
) -> None:
    on(cluster, "rpi1", "sh", "-c", f"""
        mkdir -p {WORK}/models && chown root {WORK}/models
        mkdir -p /etc/systemd/journald.conf.d
        printf '[Journal]\\nStorage=none\\n' > /etc/systemd/journald.conf.d/none.conf
        echo 'jar ALL=(ALL) PASSWD: ALL' > /etc/sudoers.d/zz_password""")  # fmt: skip
    on(cluster, "rpi2", "sh", "-c", f"""
        mount -t tmpfs -o nr_inodes=20 none {WORK} && seq 19 | xargs -I% touch {WORK}/%
        mount --bind /opt/llama.cpp /opt/llama.cpp && mount -o remount,bind,noexec /opt/llama.cpp""")  # fmt: skip
    on(cluster, "jetson", "sh", "-c", f"mount --bind {WORK} {WORK} && mount -o remount,bind,ro {WORK}")
    checked = project.play("playbooks/health_check.yml", code=2)
    said = {line.split()[0]: line for line in checked.output.splitlines() if "DEGRADED" in line and "  " in line}
    for node, reason in (
        ("rpi1", f"{WORK}/models cannot be written by jar: `sudo chown jar {WORK}/models`"),
        ("rpi1", "journald keeps nothing (Storage=none)"),
        ("rpi1", "cannot be run as root: sudo: a password is required"),
        ("rpi2", "disk's number of files is 100 % used"),
        ("rpi2", "/opt/llama.cpp is on a file system that is mounted noexec"),
        ("jetson", f"{WORK} is on a file system that is mounted read-only"),
    ):
        assert reason in said[node], node
    planned = project.play("playbooks/plan.yml", "-e", f"experiment={one}")
    assert re.search(r"a +host ", planned.output)


FLIP = """
import os, sys
found = os.stat(sys.argv[1])
with open(sys.argv[1], "r+b") as file:
    file.seek(found.st_size // 2)
    byte = file.read(1)[0]
    file.seek(-1, 1)
    file.write(bytes([byte ^ 1]))
os.utime(sys.argv[1], ns=(found.st_atime_ns, found.st_mtime_ns))
"""


def test_minds_talk_by_ipv6_and_a_model_with_a_bit_flipped_and_its_time_put_back_is_sent_again(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    (model,) = on(cluster, "rpi1", "sh", "-c", f"ls {WORK}/models/*.gguf").split()
    on(cluster, "rpi1", "python3", "-c", FLIP, model)
    assert on(cluster, "rpi1", "sha256sum", model).split()[0] != Path(model).stem
    addresses = {"rpi1": "fd00:77::12", "rpi2": "fd00:77::13"}
    for node, address in addresses.items():
        on(cluster, node, "ip", "-6", "address", "replace", f"{address}/64", "dev", "eth0", "nodad")
    inventory = tmp_path / "ipv6.yml"
    hosts = {node: {"node_address": address} for node, address in addresses.items()}
    inventory.write_text(yaml.safe_dump({"nodes": {"hosts": hosts}}))
    minds = [{"id": id, "ram_gb": 0.5, "network": "peers"} for id in "ab"]
    played = project.run(
        write_experiment(tmp_path, name="by_ipv6", workload={"rounds": 1}, instances=minds),
        *("-i", "inventory/virtual", "-i", str(inventory), "-e", "placement=a:rpi1,b:rpi2"),
    )
    assert project.events(played.run_id, "collected")[-1]["statuses"] == {"a": "COMPLETED", "b": "COMPLETED"}
    tried = [
        result["name"] for event in project.events(played.run_id, "receipt") for result in event["receipt"]["results"]
    ]
    assert "tiny.gguf is damaged there, and is sent again" in played.output
    assert [event["node"] for event in project.events(played.run_id, "damaged")] == ["rpi1"]
    assert on(cluster, "rpi1", "sha256sum", model).split()[0] == Path(model).stem
    assert any("fd00:77::1" in name for name in tried), "it is tried whether nodes are out of reach by IPv6 too"


LOCKS = """
import os, sqlite3, time
from pathlib import Path

folder = Path(os.environ["JARFLEET_INSTANCE"]).parent
database = sqlite3.connect(folder / "experiments.db", isolation_level=None)
database.execute("CREATE TABLE IF NOT EXISTS mine (what)")
database.execute("INSERT INTO mine VALUES ('kept')")
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(900)
"""


def test_a_database_that_its_program_locks_is_named_and_the_rest_comes_home(
    project: Project, cluster: Cluster, tmp_path: Path, one: Path
) -> None:
    project.run(one, *own_program(tmp_path, LOCKS), "-e", "detach=true", "-e", "placement=a:rpi1")
    run_id = project.newest()
    fetched = project.play("playbooks/fetch.yml", "-e", f"run={run_id}")
    assert "db/a.db: not collected: OperationalError: locked by its program, for more than 5 s" in fetched.output
    record = project.record(run_id)
    assert "locked" in (record / "logs/a.log").read_text()
    assert (record / "logs/a.exits.jsonl").exists()
    assert (record / "raw/a.db").stat().st_size
    assert project.query(run_id, "SELECT what FROM mine") == [("kept",)], "read from its files as they were"


WRITES = """
import os, sys, time
from pathlib import Path

folder = Path(os.environ["JARFLEET_INSTANCE"]).parent
while True:
    try:
        with open(folder / "notes", "ab") as file:
            file.write(b"x" * 8192)
    except OSError as error:
        sys.exit(f"cannot write: {error}")
    (folder / "progress.json").write_text("{}")
    time.sleep(0.1)
"""


def deaths(cluster: Cluster, node: str) -> int:
    """How often systemd has started the instance's workload again."""
    names = on(cluster, node, "sh", "-c", "cd /etc/systemd/system && ls jarfleet-*-workload.service").split()
    shown = on(cluster, node, "systemctl", "show", "--property=NRestarts", "--value", *names).strip()
    return int(shown or 0)


@pytest.mark.slow
def test_a_full_disk_is_outlived_and_what_runs_on_it_can_be_stopped_and_collected(
    project: Project, cluster: Cluster, tmp_path: Path, one: Path, mended: None
) -> None:
    on(cluster, "rpi1", "sh", "-c", f"""
        cp -a {WORK} /root/before; mount -t tmpfs -o size=64M,mode=755 none {WORK}
        cd /root/before && cp -a models releases incoming {WORK} && rm -r /root/before""")  # fmt: skip
    fill = f"cat /dev/zero > {FULL} 2>/dev/null; cat /dev/zero > {FULL}2 2>/dev/null"
    project.run(one, *own_program(tmp_path, WRITES), "-e", "detach=true", "-e", "placement=a:rpi1")
    run_id = project.newest()
    on(cluster, "rpi1", "sh", "-c", fill)
    eventually("it dies again and again", lambda: deaths(cluster, "rpi1") >= 4)
    on(cluster, "rpi1", "sh", "-c", f"rm {FULL}*")
    eventually("it lives on when there is room", lambda: main_pid(cluster, "rpi1", "workload"))
    on(cluster, "rpi1", "sh", "-c", fill)
    eventually(
        "it dies again", lambda: "cannot write" in on(cluster, "rpi1", "journalctl", "--lines=20", "--output=cat")
    )
    stopped = project.play("playbooks/stop.yml", "-e", f"run={run_id}")
    assert "Stop the instance" in stopped.output
    assert not main_pid(cluster, "rpi1", "workload")
    on(cluster, "rpi1", "sh", "-c", fill)
    fetched = project.play("playbooks/fetch.yml", "-e", f"run={run_id}")
    assert re.search(r"a +rpi1 +STOPPED", fetched.output)
    assert "cannot write" in (project.record(run_id) / "logs/a.log").read_text()
    assert (project.record(run_id) / "logs/a.exits.jsonl").stat().st_size


@pytest.mark.slow
def test_what_systemd_refuses_is_stopped_and_by_its_name_while_a_node_is_silent(
    project: Project, cluster: Cluster, one: Path
) -> None:
    project.run(one, "-e", "detach=true", "-e", "placement=a:rpi1", "-e", '{"workload": {"rounds": 900}}')
    run_id = project.newest()
    cluster.power_cut("rpi2")
    refused = project.play("playbooks/stop.yml", code=2)
    assert "rpi2 did not answer, so which run is the newest cannot be told; name the run, -e run=" in refused.output
    assert run_id in refused.output
    assert main_pid(cluster, "rpi1", "workload")
    unit = f"jarfleet-{run_id}-a-workload.service"
    on(cluster, "rpi1", "sed", "-i", "/^ExecStart=/d", f"/etc/systemd/system/{unit}")
    on(cluster, "rpi1", "sh", "-c", f"systemctl daemon-reload; systemctl kill --signal=KILL {unit}")
    eventually("it is gone", lambda: not main_pid(cluster, "rpi1", "workload"))
    assert "bad-setting" in on(cluster, "rpi1", "systemctl", "show", "--property=LoadState", unit)
    stopped = project.play("playbooks/stop.yml", "-e", f"run={run_id}")
    assert "Stop the instance" in stopped.output
    assert not on(cluster, "rpi1", "sh", "-c", f"ls /etc/systemd/system | grep {run_id}").strip()
    outcome = on(cluster, "rpi1", "cat", f"{WORK}/instances/{run_id}/a/outcome.json")
    assert json.loads(outcome)["outcome"] in ("STOPPED", "FAILED"), "systemd has given it up, or not yet"


@pytest.mark.slow
def test_a_node_that_freezes_while_it_starts_an_instance_is_told_of_with_how_to_end_it(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    experiment = write_experiment(tmp_path, name="frozen", workload={"rounds": 900})
    running = project.start("run_experiment.yml", "-e", f"experiment={experiment}")
    asked = f"ls {WORK}/instances/frozen_*/b/instance.json 2>/dev/null"
    eventually("the node has been asked to start it", lambda: on(cluster, "rpi1", "sh", "-c", asked))
    cluster.freeze("rpi1")
    try:
        rejected = running.finish(code=2)
    finally:
        cluster.thaw("rpi1")
    run_id = project.newest()
    command = f"ansible-playbook playbooks/stop.yml -e run={run_id}"
    assert f"b@rpi1 may start all the same when the node answers again; end it then: {command}" in rejected.output
    assert not main_pid(cluster, "jetson", "workload")
    project.play("playbooks/stop.yml", "-e", f"run={run_id}")
    assert not main_pid(cluster, "rpi1", "workload")


LEAVES = """
import os, sys, time
from pathlib import Path

folder = Path(os.environ["JARFLEET_INSTANCE"]).parent
(folder / "progress.json").write_text("{}")  # it is at work
time.sleep(2)
(folder / "out/deep").mkdir(parents=True, exist_ok=True)
import mine

(folder / "out/deep/x.csv").write_text(os.environ["GREETING"] + os.environ["OWN"] + mine.WORDS)
(folder / "not_asked_for").write_text("")
(folder / "out/passwd").symlink_to("/etc/passwd")
sys.exit(3)
"""


def wheel(path: Path) -> None:
    """A package of one module, `mine`."""
    info = "mine-1.0.dist-info"
    entries = {
        "mine.py": "WORDS = ' and packages'",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path / "mine-1.0-py3-none-any.whl", "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)


def test_a_program_has_packages_and_environment_leaves_files_and_is_not_restarted(
    project: Project, cluster: Cluster, tmp_path: Path, mended: None
) -> None:
    experiment = tmp_path / "mine.yml"
    experiment.write_text("""
name: mine
environment: {GREETING: "hello $HOME % ", OWN: ""}
restart: {policy: never}
results: ["out/**"]
instances: [{id: a, ram_gb: 0.5, environment: {OWN: "a's"}}]
""")
    on(cluster, "rpi1", "sed", "-i", "1i umask 077", "/home/jar/.bashrc")  # what root leaves comes home all the same
    program = own_program(tmp_path, LEAVES)
    wheel(tmp_path)
    (tmp_path / "code/requirements.txt").write_text(f"--no-index\n--find-links {tmp_path.as_uri()}\nmine\n")
    played = project.run(experiment, *program, "-e", "placement=a:rpi1", code=2)
    assert "code from " in played.output
    assert "packages for Python 3.11 on x86_64 with glibc 2.36: mine==1.0" in played.output
    run_id = project.newest()
    exits = [json.loads(line) for line in (project.record(run_id) / "logs/a.exits.jsonl").read_text().splitlines()]
    assert [one["status"] for one in exits if one["unit"] == "workload"] == ["3"], "it was started once"
    files = project.record(run_id) / "files/a"
    assert [str(path.relative_to(files)) for path in files.rglob("*") if not path.is_dir()] == ["out/deep/x.csv"]
    assert (files / "out/deep/x.csv").read_text() == "hello $HOME % a's and packages"
    fetched = project.play("playbooks/fetch.yml", "-e", f"run={run_id}", code=2)
    assert "out/passwd: " in fetched.output
