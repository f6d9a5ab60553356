#!/usr/bin/python
# Documentation of the action plugin compare.
from __future__ import annotations

DOCUMENTATION = r"""
module: compare
short_description: Put runs side by side
description:
  - Compares what was run, where, and what came of it, and whether the transcripts are the same. Times, nonces and commitments are no differences of a transcript.
options:
  runs: {description: "The runs, two or more; none - the newest and the one before it of the same experiment.", type: list, elements: str, default: []}
  runs_dir: {description: Folder of all runs., type: path, required: true}
  out: {description: "A file that gets the comparison, as JSON or, ending in C(.html), as a page; empty - none.", type: path, default: ""}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Compare the two newest runs of an experiment
  compare: {runs_dir: runs}
"""

RETURN = r"""
comparison: {description: "C(runs), C(differences), C(transcripts); see C(fleet.results.compare).", returned: success, type: dict}
table: {description: The same for a person., returned: success, type: str}
"""
