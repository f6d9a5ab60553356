"""The controller's side of a run: everything Jarfleet keeps or prepares on the machine that the user sits at.

`record` is a run's folder, `merge` its one database, `release` the code that travels to the nodes, `models` the model
files, `llama_source` the source of llama.cpp. Nothing in here knows of Ansible: plugins call in, nothing calls out, and
every fault a user can mend is a `FleetError` whose message says what to do.
"""

from importlib import metadata

from fleet.errors import FleetError

__all__ = ["FleetError", "__version__"]

try:
    __version__ = metadata.version("jarfleet")
except metadata.PackageNotFoundError:  # a clone on PYTHONPATH that was never installed
    __version__ = "0.0.0+unknown"
