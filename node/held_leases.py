"""The leases that instances have now (see `contract.leases`): /run is empty after a reboot, and none has one then."""

from __future__ import annotations

import time
from typing import Optional

from contract.description import InstanceDescription
from contract.leases import Lease, read_lease

from . import exit_log

GATE_SECONDS = 3.0
LOOK_SECONDS = 0.05


def clock() -> float:
    """CLOCK_BOOTTIME: seconds since this boot, those of a suspended machine among them; nobody sets it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def current(run_id: str, instance_id: str) -> Optional[Lease]:
    """The lease that an instance has; None where it has none, or one that has ended."""
    lease = read_lease(run_id, instance_id)
    return lease if lease and lease.boot == exit_log.boot() and lease.until > clock() else None


def seconds_left(instance: InstanceDescription) -> float:
    """How long an instance may act by the lease that its epoch has; 0 if it has none."""
    lease = current(instance.run_id, instance.id) if instance.leased else None
    return max(0.0, lease.until - clock()) if lease and lease.epoch == instance.epoch else 0.0


def awaited(instance: InstanceDescription) -> bool:
    """Whether an instance may act, asked by the gate of a unit that is started: a lease may be about to be written."""
    started = time.monotonic()
    while not holds(instance):
        if time.monotonic() > started + GATE_SECONDS:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def holds(instance: InstanceDescription) -> bool:
    """Whether an instance may act now."""
    return not instance.leased or seconds_left(instance) > 0
