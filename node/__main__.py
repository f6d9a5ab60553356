"""The program that units run as root: `python3 -I <this> started|ended <instance's folder> workload|llama`.

Whatever goes wrong is reported on stderr and no more: it must not change what becomes of the unit.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Sequence

from . import unit_hooks

HOOKS = {"started": unit_hooks.started, "ended": unit_hooks.ended}


def main(words: Sequence[str]) -> None:
    """Run one hook."""
    try:
        hook, folder, unit = words
        HOOKS[hook](Path(folder), unit)
    except Exception as error:
        print(f"jarfleet: {' '.join(words[:1])}: {type(error).__name__}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
