"""Bad input: every fault named at once, an exit code that is not 0, and no node contacted."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import NODES, ROOT, Project, on
from tests.nodes import Cluster

GOOD = yaml.safe_load((ROOT / "experiments" / "split_brain.yml").read_text())


def logins(cluster: Cluster) -> dict[str, str]:
    """How often somebody has logged in on each node."""
    return {
        node: on(cluster, node, "sh", "-c", "journalctl -q -u ssh --no-pager | grep -c Accepted || true")
        for node in NODES
    }


@pytest.fixture(scope="module", autouse=True)
def _no_node_is_contacted(cluster: Cluster) -> Iterator[None]:
    """Of all that is refused here before the nodes are read, no node hears anything."""
    before = logins(cluster)
    yield
    assert logins(cluster) == before


def faulty(folder: Path, change: str) -> Path:
    document = yaml.safe_load(yaml.safe_dump(GOOD))
    first, second = document["instances"]
    exec(change, {"document": document, "first": first, "second": second})  # noqa: S102 - the table below
    path = folder / "faulty.yml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("first['ram_gb'] = '8 GB'", ["instances.a.ram_gb", "8 GB"]),
        ("del document['name']", ["name"]),
        ("first['ram_gb'] = -5", ["instances.a.ram_gb", "-5"]),
        ("first['ram_gb'] = float('inf')", ["instances.a.ram_gb"]),
        ("second['id'] = 'a'", ["instances.a", "give each its own"]),
        ("second['preferred_node'] = 'rpi9'", ["instances.b.preferred_node", "no node is named 'rpi9'"]),
        ("first['gpus'] = 1", ["instances.a.gpus", "no key is named 'gpus'"]),
        ("document['instance'] = []", ["instance", "no key is named 'instance'"]),
        ("second['anti_affinity'] = ['z']", ["instances.b.anti_affinity", "z"]),
        ("first['gpu'] = 'yes'", ["instances.a.gpu"]),
        ("first['id'] = '../../etc'", ["../../etc"]),
        ("document['model'] = {'path': '/nowhere.gguf'}", ["/nowhere.gguf"]),
        ("document['model'] = {'path': '/nowhere.gguf', 'sha1': 'x'}", ["sha1"]),
    ],
)
def test_a_fault_is_named_by_its_key(
    project: Project, cluster: Cluster, tmp_path: Path, change: str, expected: list[str]
) -> None:
    played = project.run(faulty(tmp_path, change), code=2)
    for words in expected:
        assert words in played.output


def test_a_misspelt_experiment_is_reported_with_what_was_meant(project: Project, cluster: Cluster) -> None:
    assert "did you mean 'split_brain'" in project.run("split_brian", code=2).output


def test_faults_of_every_source_are_named_at_once(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    """Experiment file, pins, inventory, code and cluster variables: all in one answer."""
    inventory = tmp_path / "inventory.yml"
    inventory.write_text("nodes: {hosts: {rpi1: {ram_gb: -8, health_check: {enabled: perhaps, interval: 3}}}}\n")
    played = project.run(
        faulty(tmp_path, "first['ram_gb'] = 0; second['colour'] = 'red'; second['preferred_node'] = 'rpi9'"),
        "-i", "inventory/virtual", "-i", str(inventory), "-e", "placement=z:jetson,b:rpi7",
        "-e", "experiment_code_src=/no/such/folder", code=2,
    )  # fmt: skip
    for words in (
        "instances.a.ram_gb",
        "instances.b.colour",
        "instances.b.preferred_node",
        "nodes.rpi1.ram_gb",
        "z:jetson",
        "b:rpi7",
        "/no/such/folder",
        "health_check.interval",
        "health_check.enabled",
    ):
        assert words in played.output, words


def test_a_model_that_is_not_the_one_declared_is_refused_before_any_node_is_touched(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    model = tmp_path / "other.gguf"
    model.write_bytes(b"GGUF" + bytes(100))
    wrong, right = "0" * 64, hashlib.sha256(model.read_bytes()).hexdigest()
    played = project.run(
        faulty(tmp_path, f"document['model'] = {{'path': {str(model)!r}, 'sha256': {wrong!r}}}"), code=2
    )
    assert wrong in played.output
    assert right in played.output


def test_a_duplicate_host_in_the_inventory_is_an_error(project: Project, tmp_path: Path) -> None:
    inventory = tmp_path / "twice.yml"
    inventory.write_text("nodes:\n  hosts:\n    rpi1: {ram_gb: 8}\n    rpi1: {ram_gb: 16}\n")
    assert project.run("split_brain", "-i", str(inventory), code=None).code != 0


def test_options_that_make_no_sense_are_named_at_once(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    """Numbers that are none, pins in a circle, and a saved plan that is none."""
    bare = tmp_path / "plan.json"
    bare.write_text('{"strategy": "optimal", "assignments": {}}')
    played = project.run(
        "split_brain", "-e", f"plan={bare}", "-e", "placement=a:b,b:a", "-e", "strategy=best", "-e", "repeat=-1",
        "-e", '{"placement_seed": 1e400, "placement_time_limit": ".nan"}', code=2,
    )  # fmt: skip
    for words in (
        "a bare plan, which does not say what it depended on",
        "placement: given beside a saved plan",
        "a:b: no node is named 'b'",
        "b:a: no node is named 'a'",
        "strategy: no strategy is named 'best'",
        "placement_seed: inf is not a whole number",
        "placement_time_limit: '.nan' is not a number of seconds",
        "repeat: '-1' is not a whole number",
    ):
        assert words in played.output, words
