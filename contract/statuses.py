"""The statuses of nodes and instances."""

from __future__ import annotations

# A node. MAINTENANCE is set by a person, and no check overrules it.
HEALTHY, DEGRADED, UNAVAILABLE, MAINTENANCE = "HEALTHY", "DEGRADED", "UNAVAILABLE", "MAINTENANCE"
NODE_STATUSES = (HEALTHY, DEGRADED, UNAVAILABLE, MAINTENANCE)

# An instance, as its node reports it.
PENDING, RUNNING, CRASHED = "PENDING", "RUNNING", "CRASHED"
COMPLETED, FAILED, STOPPED, FENCED = "COMPLETED", "FAILED", "STOPPED", "FENCED"
ALIVE = (PENDING, RUNNING, CRASHED)  # holds its slot, memory and ports
ENDED = (COMPLETED, FAILED, STOPPED, FENCED)  # will not run again
INSTANCE_STATUSES = (*ALIVE, *ENDED)

LOST = "LOST"  # the controller's word for an instance whose node does not answer
BAD = (FAILED, LOST)  # a run with one of these has failed
