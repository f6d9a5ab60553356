"""The node's program, run as root: `python3 -I <this> started|ended <instance's folder> workload|llama`, or
`... connect <instance's folder>`.

The hooks are run by an instance's units. Whatever goes wrong in one is reported on stderr and no more: it must not
change what becomes of the unit.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Sequence

from . import connection, unit_hooks

HOOKS = {"started": unit_hooks.started, "ended": unit_hooks.ended}


def main(words: Sequence[str]) -> None:
    """Run one of them. Exits with 1 when a connection fails."""
    verb, folder, *more = words
    try:
        if verb == "connect":
            connection.connect(Path(folder))
        else:
            HOOKS[verb](Path(folder), *more)
    except Exception as error:
        print(f"jarfleet: {verb}: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(verb == "connect")


if __name__ == "__main__":
    main(sys.argv[1:])
