"""Lookup `node_program`: the program that this Jarfleet has for its nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: node_program
short_description: The program that does on a node what takes root
description:
  - Returns the program as an artifact for M(push); it is made in the cache if need be.
options:
  _terms: {description: The controller's cache., required: true}
author: [Jarfleet]
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ lookup('node_program', jarfleet_cache).sha256 }}"
"""

RETURN = r"""
_raw:
  description: One artifact a term.
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

from contract import names
from fleet.artifacts.node_program import node_program


class LookupModule(LookupBase):
    """Names the program of this version."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        return [self._artifact(Path(term)) for term in terms]

    def _artifact(self, cache: Path) -> dict[str, Any]:
        program = node_program(cache)
        return {
            "name": "the node's program",
            "src": str(program.path),
            "sha256": program.sha256,
            "dest": names.node_program(program.sha256),
            "link": names.NODE_PROGRAM,
            "root_owned": True,
        }
