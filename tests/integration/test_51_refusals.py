"""What only measuring can refuse: a plan that does not exist, a node that is less than it claims to be."""

from pathlib import Path

from tests.integration.conftest import NODES, Project
from tests.integration.test_50_bad_input import faulty


def test_more_than_the_nodes_have_is_refused_with_reasons_for_each_node(project: Project, tmp_path: Path) -> None:
    runs = sorted(project.runs.iterdir())
    played = project.run(faulty(tmp_path, "first['ram_gb'] = 500"), code=2)
    assert "no plan" in played.output
    for node in NODES:
        assert node in played.output
    assert "needs 500.0 GB, has 56.0 free" in played.output
    assert sorted(project.runs.iterdir()) == runs


def test_a_size_declared_beyond_what_the_node_has_is_an_error_unless_it_is_simulated(
    project: Project, tmp_path: Path
) -> None:
    inventory = tmp_path / "boast.yml"
    inventory.write_text("nodes: {hosts: {rpi1: {node_simulated: false}}}\n")
    played = project.run("split_brain", "-i", "inventory/virtual", "-i", str(inventory), code=2)
    assert "nodes.rpi1.ram_gb: 8 is more than the 1.0 GB that the node has" in played.output
