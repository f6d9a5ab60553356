"""The test nodes keep what they promise: without this, no other integration test means anything."""

import pytest

from tests.nodes import Cluster
from tests.nodes.checks import CHECKS, run_check


@pytest.mark.parametrize("name", CHECKS)
def test_the_nodes_keep_their_promise(cluster: Cluster, name: str) -> None:
    """One test per named check; the name is the sentence."""
    run_check(cluster, name)
