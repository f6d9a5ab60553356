"""The controller's Python code, one package per task. It does not import Ansible: the plugins call it, not the reverse.

    base/       errors, atomic file writes, text tables, file transport: shared by all other packages
    artifacts/  what is sent to the nodes: code releases, model files, the source of llama.cpp
    record/     a run's folder: its manifest, its events, its signature, its checkpoints
    intake/     what the user asked for, read once and checked
    launch/     from a plan to a launch spec for each instance; replays, resumed runs
    control/    the control loop: what to do about a running cluster, and doing it
    observe/    what the nodes report, and which run a command refers to
    results/    the fetched results: merged databases, deaths, memory, comparisons, exports
    report/     report.html

Every error that a user can fix is a `FleetError` whose message says what to do.
"""

from importlib import metadata

from fleet.base.errors import FleetError

__all__ = ["FleetError", "__version__"]

try:
    __version__ = metadata.version("jarfleet")
except metadata.PackageNotFoundError:  # a clone on PYTHONPATH that was never installed
    __version__ = "0.0.0+unknown"
