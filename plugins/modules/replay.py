#!/usr/bin/python
# Documentation of the action plugin replay.
from __future__ import annotations

DOCUMENTATION = r"""
module: replay
short_description: Take from a run's record what it takes to run it again
description:
  - Verifies the signature of the run's manifest, and that the plan beside it is the one that was run.
  - Finds the release and the models that the manifest names, or makes and fetches them again; what is not the same any more is kept
    for M(place), which refuses with everything that is different.
  - Fails for a record without a valid signature, or without something that a replay needs. No node is contacted.
options:
  run_id: {description: "The run; V(latest) is the newest.", type: str, required: true}
  runs_dir: {description: Folder of all runs., type: path, required: true}
  cache: {description: The controller's cache., type: path, required: true}
  project: {description: The project's clone., type: path, required: true}
  signing_key: {description: "The user's SSH key, whose signature counts when O(allowed_signers) is empty; empty - those of ~/.ssh.", type: path, default: ""}
  allowed_signers: {description: "File of those whose signatures count, as ssh-keygen(1) describes it; empty - the user alone.", type: path, default: ""}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Read the record
  replay: {run_id: latest, runs_dir: runs, cache: ~/.cache/jarfleet, project: .}
  register: found
"""

RETURN = r"""
found: {description: What M(experiment) would return of what a user wrote; it is given to it as C(replay)., returned: success, type: dict}
nodes: {description: The nodes of the run's plan that the inventory has., returned: success, type: list}
"""
