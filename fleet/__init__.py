"""The controller's Python, a room a job. Nothing in here knows of Ansible: plugins call in, nothing calls out.

    base/       errors, files written whole, tables, the transport of files: what every room needs
    artifacts/  what travels to the nodes: releases of code, model files, the source of llama.cpp
    record/     a run's folder: its manifest, its events, its signature
    intake/     what the user asked for, read once and checked
    launch/     from a plan to what each node is given to start; replays
    observe/    what the nodes report, and which run a command is about
    results/    what came home: merged databases, deaths, memory, comparisons, exports
    report/     report.html

Every fault that a user can mend is a `FleetError` whose message says what to do.
"""

from importlib import metadata

from fleet.base.errors import FleetError

__all__ = ["FleetError", "__version__"]

try:
    __version__ = metadata.version("jarfleet")
except metadata.PackageNotFoundError:  # a clone on PYTHONPATH that was never installed
    __version__ = "0.0.0+unknown"
