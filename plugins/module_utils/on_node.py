"""Make `contract` and `node` importable in a module on a node under their usual names.

ansible.cfg makes Ansible ship packages of the project's root as ansible.module_utils.<package>. A module imports this
file first, and then `contract` and `node` as the controller does. Ansible ships what is imported by that longer name,
and what that imports in turn by relative imports, called or not: so each module has a function `shipped` that names what
it takes of `node`, and is never called. Of `contract`, all is shipped. What is not imported by its usual name is not
loaded: a call of a module lasts as long as loading what it needs.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any, Optional

from ansible import module_utils

# That of who logs in may keep others from what is made here, instances among them.
os.umask(0o022)
# Nobody may wait for the answer any more: whatever a module does, it ends.
signal.alarm(6 * 3600)


class OwnNames:
    """Finds the two packages among what Ansible has shipped, and nothing else there."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        """Return where a package is; see importlib.abc.MetaPathFinder."""
        return PathFinder.find_spec(name, list(module_utils.__path__)) if name in ("contract", "node") else None


sys.meta_path.insert(0, OwnNames)


def shipped() -> None:
    """Never called."""
    from ansible.module_utils import contract, node
    from ansible.module_utils.contract import (
        attention,
        calls,
        cgroup,
        collected,
        credentials,
        description,
        events,
        exits,
        json_records,
        launch_spec,
        leases,
        names,
        node_state,
        outcome,
        preparation,
        progress,
        promises,
        receipt,
        restarts,
        slot,
        statuses,
    )
