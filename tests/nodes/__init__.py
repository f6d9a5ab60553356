"""Test nodes that are real machines to Ansible: containers with their own address, sshd and a booted systemd.

`python -m tests.nodes --help` is the command line; `Cluster` is the same for pytest.
"""

from tests.nodes.cluster import Cluster, Node
from tests.nodes.machine import PACKAGES, NodesError

__all__ = ["PACKAGES", "Cluster", "Node", "NodesError"]
