"""The node's program: `python3 -I <this> [VERB ...]`.

    (nothing)                                           answers one call on its standard input, as root: see `helper`
    started|ended <instance's folder> workload|llama    root's hooks of an instance's units
    lease <instance's folder>                           exits with 1 when the instance has no lease: its units' gate
    guard <instance's folder> <instances that fit>      keeps the folder within its size, as root
    attempt                                             an instance's receipt, as the instance
    save <instance's folder>                            has llama-server save its slot: see `slots`
    stopping <instance's folder>                        the same, where it is stopped by a person or for a move
    restore <instance's folder>                         has it take the slot that was sent; exits with 1 when it cannot

Whatever goes wrong in a hook is reported on stderr and no more: it must not change what becomes of the unit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Callable, Mapping, Optional, Sequence

from contract.json_records import decoded
from contract.receipt import LIMIT, Attempts, Receipt

from . import attempts, guard, held_leases, helper, instances, slots, unit_hooks

HOOKS = {"started": unit_hooks.started, "ended": unit_hooks.ended}


def main(words: Sequence[str]) -> None:
    """Run one of them. Exits with 1 when anything but a hook fails."""
    if not words:
        sys.exit(helper.serve())
    verb, *more = words
    try:
        if verb == "guard":
            folder, most = more
            guard.watch(Path(folder), int(most))
        elif verb == "lease":
            (folder,) = more
            sys.exit(not held_leases.awaited(instances.read_description(Path(folder))))
        elif verb == "attempt":
            _attempt()
        elif verb in ON_FOLDERS:
            (folder,) = more
            sys.exit(ON_FOLDERS[verb](Path(folder)))
        else:
            folder, unit = more
            HOOKS[verb](Path(folder), unit)
    except Exception as error:
        print(f"jarfleet: {verb}: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(verb not in HOOKS)


def _restore(folder: Path) -> bool:
    came = slots.restore(folder)
    return came is not None and came.has_spoiled


ON_FOLDERS: Mapping[str, Callable[[Path], Optional[bool]]] = {
    "save": slots.save,
    "stopping": slots.save_if_stopped,
    "restore": _restore,
}


def _attempt() -> None:
    """Exits with 1 when the instance's isolation does not hold."""
    asked = Attempts.from_json(decoded(sys.stdin.read(LIMIT), "standard input"), "standard input")
    receipt = Receipt(tuple(attempts.results(asked)))
    print(json.dumps(receipt.to_json()), flush=True)
    sys.exit(bool(receipt.broken))


if __name__ == "__main__":
    main(sys.argv[1:])
