"""`python3 -m workload`: run the instance that JARFLEET_INSTANCE names.

Exits 0 when it is complete (at once, if it was complete already). Exits 78 when its configuration is wrong and 69 when
its peer is lost, so that systemd does not try again, and 1 when something broke that a restart may mend.
Stopped by a signal it dies of that signal, so that this cannot be taken for completion. It may be killed at any
moment, and started again to go on.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Any

from contract import names
from contract.exits import read_exits

from . import database as databases
from . import lease_timer, life
from .life_record import LifeRecord
from .messaging import PeerLost
from .settings import Settings
from .this_instance import ConfigError, Instance

log = logging.getLogger("workload")
EX_UNAVAILABLE, EX_CONFIG = 69, 78  # sysexits.h


def die_of_signals(database: databases.Database) -> None:
    """Have SIGTERM and SIGINT close the database and then do what they do by default.

    The handler ends the process itself, whatever the main thread is doing: there is no exception that could be
    swallowed on its way out and no wait that would have to be woken.
    """

    def die(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        os.write(1, f"stopped by {signal.Signals(number).name}\n".encode())  # logging may be mid-line
        if database.lock.acquire(timeout=1):  # a thread's transaction; past that, a rollback does no harm
            database.close()
        os.kill(os.getpid(), number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, die)


def main() -> int:
    """Run the instance, and return the exit status."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    try:
        instance = Instance.load()
        settings = Settings.of(instance)
    except ConfigError as error:
        print(f"bad configuration: {error}", file=sys.stderr)
        return EX_CONFIG
    if instance.leased:
        lease_timer.obey(instance.run_id, instance.id, instance.epoch)
    instance.dir.mkdir(parents=True, exist_ok=True)
    exits = read_exits(instance.dir / names.EXIT_LOG).of(names.WORKLOAD)
    database = databases.open(instance.database)
    die_of_signals(database)
    record = LifeRecord(instance, settings, database)
    record.begin()
    if record.is_complete():
        log.info("%s is complete already", instance.experiment_id)
    else:
        log.info("%s: %s, %d rounds", instance.experiment_id, settings.mode, settings.rounds)
        try:
            life.live(instance, settings, record, exits[-1] if exits else None)
        except PeerLost as error:
            log.error("%s", error)
            database.close()
            return EX_UNAVAILABLE
        log.info("%s is complete", instance.experiment_id)
    database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
