"""What happens in a cluster: one log of events over all runs, and a command of the user's for each of them."""

from __future__ import annotations

import json
import logging
import subprocess
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from contract import events
from contract.events import Event

FILE = "events.jsonl"
HOOK_SECONDS = 30

log = logging.getLogger("control")


class ClusterEvents:
    """The log, `events.jsonl` in the loop's folder. hook: a command that is given each line on its standard input."""

    def __init__(self, folder: Path, hook: Sequence[str] = ()) -> None:
        self._path, self._hook = folder / FILE, hook

    def append(self, event: Event, run_id: str = "") -> None:
        """Write down one event. run_id: the run that it is of."""
        entry = {**events.to_json(event, datetime.now(UTC).isoformat(timespec="milliseconds")), "run_id": run_id}
        line = json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        with self._path.open("ab") as file:
            file.write(line)
        if self._hook:
            threading.Thread(target=self._call, args=(line,), daemon=True).start()

    def _call(self, line: bytes) -> None:
        """Run the hook; it is the user's own, and its failure is told and no more."""
        try:
            done = subprocess.run(self._hook, input=line, capture_output=True, timeout=HOOK_SECONDS)  # noqa: S603
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("hook %s: %s", self._hook[0], error)
            return
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()[-300:]
            log.warning("hook %s exited with %d: %s", self._hook[0], done.returncode, said)
