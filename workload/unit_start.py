"""`python3 -m workload.unit_start workload|llama`: write down that a process of that unit starts.

systemd runs it as ExecStartPre. Whatever goes wrong is reported on stderr and no more: it must not keep the unit down.
"""

from __future__ import annotations

import sys

from contract import names

from . import exit_log
from .this_instance import Instance


def main() -> None:
    """Write down the start of the unit that the argument names."""
    if len(sys.argv) != 2 or sys.argv[1] not in names.UNITS:
        raise ValueError("takes one argument, workload or llama")
    instance = Instance.load()
    exit_log.log_start(instance.dir, instance.node, sys.argv[1])


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(f"unit_start: {error}", file=sys.stderr)
