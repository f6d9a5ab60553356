#!/usr/bin/python
# Documentation of the action plugin host_keys.
from __future__ import annotations

DOCUMENTATION = r"""
module: host_keys
short_description: Know the host keys of new nodes before anybody logs in
description:
  - Asks each node without a known host key for its ed25519 key, compares the fingerprint with the node's C(host_key_fingerprint) or has a
    person confirm it, and adds it to the known hosts that ssh will use. Runs on the controller and logs in nowhere.
options:
  nodes: {description: The nodes., type: list, elements: str, required: true}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Know the nodes
  host_keys: {nodes: "{{ groups.nodes }}"}
"""

RETURN = r"""
diff: {description: The keys that were added., returned: success, type: list}
"""
