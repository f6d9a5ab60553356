"""Make `contract` and `node` importable in a module on a node under their usual names.

ansible.cfg makes Ansible ship packages of the project's root as ansible.module_utils.<package>. A module imports this
file first, and then `contract` and `node` as the controller does.
"""

from __future__ import annotations

import os
import signal
import sys

from ansible.module_utils import contract  # shipped, see above
from ansible.module_utils.contract import (  # Ansible ships the modules that are named
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

# That of who logs in may keep others from what is made here, instances among them.
os.umask(0o022)
# Nobody may wait for the answer any more: whatever a module does, it ends.
signal.alarm(6 * 3600)
PREFIX = "ansible.module_utils."


def _alias(package: str) -> None:
    """Register the package and its modules under their own names too."""
    for name, module in list(sys.modules.items()):
        if (name + ".").startswith(f"{PREFIX}{package}."):
            sys.modules[name[len(PREFIX) :]] = module


_alias(contract.__name__[len(PREFIX) :])

from ansible.module_utils import node  # imports contract by its own name
from ansible.module_utils.node import (
    admission,
    artifacts,
    attempts,
    attendance,
    board,
    bootstrap,
    changes,
    collection,
    connection,
    credential_files,
    database_copy,
    epochs,
    errors,
    exit_log,
    fitness,
    guard,
    health,
    held_leases,
    helper,
    instances,
    isolation,
    journal,
    known_promises,
    lease_renewal,
    llama_cpp_build,
    outcomes,
    private_network,
    probe,
    promise_trial,
    quoting,
    result_files,
    rules,
    sandbox,
    shared_folder,
    slots,
    systemd,
    systemd_backend,
    unit_hooks,
    units,
    users,
)

_alias(node.__name__[len(PREFIX) :])
