"""`python -m fleet.control FOLDER`: the control loop in the foreground, until SIGTERM or Ctrl-C.

FOLDER is the loop's, with the `loop.json` that `playbooks/control.yml` has written. Exits with 2 when there is a loop
already, or its file cannot be read.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from contract import ContractError
from fleet.base.errors import ControlError
from fleet.control.loop import Loop
from fleet.control.loop_file import LoopFile
from fleet.control.one_at_a_time import held


async def _until_stopped(loop: Loop) -> None:
    work = asyncio.create_task(loop.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        logging.getLogger("control").info("stopped")


def main() -> int:
    """Run the loop, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fleet.control", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the loop's folder, such as ~/.local/state/jarfleet/control/jarfleet")
    folder = parser.parse_args().folder
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s")
    try:
        with held(folder) as announce:
            loop = Loop(LoopFile.of(folder), folder)
            announce()
            logging.getLogger("control").info("started")
            asyncio.run(_until_stopped(loop))
    except (ControlError, ContractError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
