"""Open a run's merged database in a browser with Datasette: `python -m fleet.results.browse [RUN] [--port PORT]`.

It serves on 127.0.0.1, read-only: the file is opened as immutable, so no lock is taken and nothing is written beside
it. The process is replaced by Datasette, so a signal to the process ends Datasette.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec

from fleet.base.errors import FleetError
from fleet.record.run_folder import LATEST, Run
from fleet.results.merged_database import DATABASE, opened


def main() -> None:
    """Start Datasette. Exit with code 2 and a one-line message that says what to do if there is nothing to show."""
    parser = argparse.ArgumentParser(
        prog="python -m fleet.results.browse", description="A run's database in a browser."
    )
    parser.add_argument("run", nargs="?", default=LATEST, help="a run id (default: the newest)")
    parser.add_argument("--port", type=int, default=8001, help="on 127.0.0.1 (default: 8001)")
    given = parser.parse_args()
    try:
        run = Run.open(os.environ.get("JARFLEET_RUNS") or "runs", given.run)
        with opened(run.path):
            pass
    except FleetError as error:
        parser.exit(2, f"{error}\n")
    if find_spec("datasette") is None:
        parser.exit(2, "datasette is not installed; `make setup`, or pip install 'jarfleet[analysis]'\n")
    arguments = ["serve", "--immutable", str(run.path / DATABASE), "--host", "127.0.0.1", "--port", str(given.port)]
    os.execv(sys.executable, [sys.executable, "-m", "datasette", *arguments])  # noqa: S606 - no shell


if __name__ == "__main__":
    main()
