"""systemctl: its answers about units, and its orders to them."""

from __future__ import annotations

import subprocess
from typing import Dict, Iterable, List, Sequence

from contract.names import UNIT_FOLDER

from .errors import NodeError

PROPERTIES = "Id,ActiveState,SubState,InactiveEnterTimestamp,Job,MainPID,NRestarts"


def show(names: Sequence[str]) -> Dict[str, Dict[str, str]]:
    """`systemctl show` of many units in one call: {unit: {property: value}}."""
    if not names:
        return {}
    text = subprocess.run(
        ["systemctl", "show", "--property", PROPERTIES, "--", *names], stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def version() -> int:
    """The version of systemd, such as 252. Raises ValueError, OSError."""
    said = subprocess.run(["systemctl", "--version"], stdout=subprocess.PIPE, check=True, text=True).stdout
    return int(said.split()[1])


def is_shutting_down() -> bool:
    """Whether the node is going down: what it stops for that will go on when it is up again."""
    done = subprocess.run(["systemctl", "is-system-running"], stdout=subprocess.PIPE, text=True)
    return done.stdout.strip() == "stopping"


def systemctl(*words: str) -> str:
    """What systemctl says. Raises NodeError."""
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise NodeError(f"systemctl {' '.join(words)} exited with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def present(names: Iterable[str]) -> List[str]:
    """Those of the units whose files are there."""
    return [name for name in names if (UNIT_FOLDER / name).exists()]


def remove(names: Iterable[str], run_slice: str, prefix: str) -> None:
    """Stop units, and whatever is in a slice among them, and remove their files. Raises NodeError, OSError.

    run_slice is stopped when no unit of the run, which begin with `prefix`, is left.
    """
    found = present(names)
    if not found:
        return
    said = tried("stop", *found)  # refuses what systemd could not load; that does not run either
    alive = [name for name, shown in show(found).items() if shown["ActiveState"] not in ("inactive", "failed")]
    if alive:
        raise NodeError(f"{', '.join(alive)} cannot be stopped: {said}")
    for name in found:
        for link in UNIT_FOLDER.glob(f"*.wants/{name}"):
            link.unlink()
        (UNIT_FOLDER / name).unlink()
    if not any(UNIT_FOLDER.glob(f"{prefix}*")):
        tried("stop", run_slice)  # not loaded where nothing has started
    systemctl("daemon-reload")
    tried("reset-failed", *found)  # fails when there is nothing to reset


def tried(*words: str) -> str:
    """Run systemctl, which may fail: what it said."""
    return subprocess.run(["systemctl", *words], capture_output=True, text=True).stderr.strip()
