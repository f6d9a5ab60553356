#!/usr/bin/python
# Documentation of the action plugin record_copy.
from __future__ import annotations

DOCUMENTATION = r"""
module: record_copy
short_description: Keep a copy of what a run needs to go on, on a node
description:
  - C(sent) brings the copy on this node up to date - manifest, plan, events, and the newest checkpoint of each instance.
  - C(sought) tells which runs have no record on the controller, and which node may have a copy. It contacts no node.
  - C(fetched) makes the record of such runs from the copies that this node has. A record that is there is left as it is.
  - A node that cannot be reached, or has no room, is warned of and no failure - the run goes on.
options:
  state: {description: What to do., choices: [sought, sent, fetched], required: true, type: str}
  runs_dir: {description: Folder of all runs., type: path, required: true}
  run_ids: {description: The runs. With C(sought) none means those that act for another controller's loop., type: list, elements: str, default: []}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Keep a copy
  record_copy: {state: sent, runs_dir: runs, run_ids: [split_brain_20261123T141500Z_3f2a]}
"""

RETURN = r"""
run_ids: {description: "Those without a record, or those that were sent or brought back.", returned: success, type: list}
stores: {description: The node that may have a copy., returned: when sought, type: list}
"""
