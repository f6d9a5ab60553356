"""The workload's own end of its lease: a timer of the kernel's kills this process, whatever it does at that moment.

A process that was frozen with its node and goes on after its lease has ended runs no instruction of its own before the
signal; systemd's timer alone would come some milliseconds late.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time

from contract.leases import Lease, read_lease

LOOK_SECONDS = 1.0

log = logging.getLogger("workload")


def obey(run_id: str, instance_id: str, epoch: int) -> None:
    """End this process by SIGALRM when its lease ends, and follow its renewals. Exits at once when it has none."""
    lease = read_lease(run_id, instance_id)
    if lease is None or lease.epoch != epoch:
        log.error("%s has no lease, so it does not act", instance_id)
        sys.exit(1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _set(lease)
    threading.Thread(target=_follow, args=(run_id, instance_id, lease), daemon=True).start()


def _follow(run_id: str, instance_id: str, known: Lease) -> None:
    while True:
        time.sleep(LOOK_SECONDS)
        lease = read_lease(run_id, instance_id)
        if lease and lease.epoch == known.epoch and lease.boot == known.boot and lease.until > known.until:
            _set(lease)
            known = lease


def _set(lease: Lease) -> None:
    left = lease.until - time.clock_gettime(time.CLOCK_BOOTTIME)
    signal.setitimer(signal.ITIMER_REAL, max(left, 1e-6))  # 0 would disarm it
