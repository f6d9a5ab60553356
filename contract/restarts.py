"""When a process that died is started again: soon at first, later and later while processes die early.

What keeps it from living may pass, as a full disk does. systemd counts the starts, and gives up after too many.
"""

from __future__ import annotations

SECONDS = 1  # that systemd waits before each restart
EARLY_SECONDS = 5  # a process that lived so long did not die early
AT_ONCE = 2  # so many restarts wait for nothing more
LONGEST_DELAY = 4.0
STARTING = 1.0  # seconds that a start takes on a slow node, with what root writes down


def delay(restarts: int) -> float:
    """Seconds to wait beyond SECONDS before the restart of this number, when the process before it died early."""
    return 0.0 if restarts <= AT_ONCE else min(2.0 ** (restarts - AT_ONCE - 1), LONGEST_DELAY)


def least_seconds(starts: int) -> float:
    """How long so many starts take, of a process that dies at once."""
    return sum(SECONDS + STARTING + delay(restart) for restart in range(1, starts))
