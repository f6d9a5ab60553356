"""The node's program: `python3 -I <this> [VERB ...]`.

    (nothing)                                           answers a call on its standard input, as root: `root_calls`
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
import os
import sys
from pathlib import Path
from typing import Callable, Mapping, Optional, Sequence

from contract import ContractError
from contract.json_records import decoded

HOOKS = ("started", "ended")
# Each verb imports what it needs itself: to load all of it costs more than most of them do, many times in a run.


def main(words: Sequence[str]) -> None:
    """Run one of them. Exits with 1 when anything but a hook fails."""
    verb, more = (words[0], words[1:]) if words else ("", ())
    try:
        sys.exit(VERBS[verb](*more))
    except Exception as error:
        print(f"jarfleet: {verb}: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(verb not in HOOKS)


def _serve() -> bool:
    """Answer the one call on standard input. Return whether it failed."""
    from contract.calls import LIMIT, Answer, Call

    os.environ.clear()
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        line = sys.stdin.buffer.readline(LIMIT)
        call = Call.from_json(decoded(line, "call"), "call")
    except ContractError as error:
        print(json.dumps(Answer(error=str(error)).to_json()))
        return True
    from . import root_calls

    if call.verb in root_calls.STREAMS:
        return root_calls.stream(call)
    answer = root_calls.perform(call)
    print(json.dumps(answer.to_json()), flush=True)
    return bool(answer.error)


def _started(folder: str, unit: str) -> None:
    from . import unit_hooks

    unit_hooks.started(Path(folder), unit)


def _ended(folder: str, unit: str) -> None:
    from . import unit_hooks

    unit_hooks.ended(Path(folder), unit)


def _lease(folder: str) -> bool:
    from . import held_leases, instances

    return not held_leases.awaited(instances.read_description(Path(folder)))


def _guard(folder: str, most: str) -> None:
    from . import guard

    guard.watch(Path(folder), int(most))


def _save(folder: str) -> None:
    from . import slots

    slots.save(Path(folder))


def _stopping(folder: str) -> None:
    from . import slots

    slots.save_if_stopped(Path(folder))


def _restore(folder: str) -> bool:
    from . import slots

    came = slots.restore(Path(folder))
    return came is not None and came.has_spoiled


def _attempt() -> bool:
    """Return whether the instance's isolation does not hold."""
    from contract.receipt import LIMIT, Attempts, Receipt

    from . import attempts

    asked = Attempts.from_json(decoded(sys.stdin.read(LIMIT), "standard input"), "standard input")
    receipt = Receipt(tuple(attempts.results(asked)))
    print(json.dumps(receipt.to_json()), flush=True)
    return bool(receipt.broken)


# What each returns says whether the program exits with 1.
VERBS: Mapping[str, Callable[..., Optional[bool]]] = {
    "": _serve,
    "started": _started,
    "ended": _ended,
    "lease": _lease,
    "guard": _guard,
    "attempt": _attempt,
    "save": _save,
    "stopping": _stopping,
    "restore": _restore,
}


if __name__ == "__main__":
    main(sys.argv[1:])
