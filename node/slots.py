"""Saves and restores llama-server's slot (see `contract.slot`), as root, in the folder where llama-server may write.

That folder is the instance's own: what lies there may be anything, under any name. What a server answers is read as
data, and whoever waits for it has a time limit.
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import secrets
import shutil
import stat
import struct
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, Mapping, Optional
from urllib.parse import urlsplit

from contract import names
from contract.description import InstanceDescription
from contract.slot import LIMIT, Restored
from contract.statuses import STOPPED

from . import health, instances, shared_folder, systemd
from .errors import NodeError

SAVE_SECONDS = 10  # while the instance lives on; a server saves between two answers
ANSWER_SECONDS = 120
ANSWER_BYTES = 2**20
LOOK_SECONDS = 0.1
SAVED, SENT = "slot.bin", "restore.bin"
# llama_state_seq_save_file: magic "ggsq", version, number of 32-bit values; then these. They are the tokens, or -1, the
# version of what follows, the number of tokens, the tokens, and more (llama.cpp's server_tokens::serialize).
HEAD, MAGIC, MARK, VERSION = struct.Struct("<III"), 0x67677371, -1, 1


def save(folder: Path) -> None:
    """Have an instance's llama-server save its slot; there is none afterwards where it has nothing in it.

    Raises NodeError, OSError, ContractError.
    """
    instance = instances.read_description(folder)
    with _own_folder(folder) as own:
        discard(own)
        if not instance.slot_bytes:
            return
        room = os.statvfs(str(own))
        if room.f_bavail * room.f_frsize < 2 * instance.slot_bytes:  # and a copy of it
            raise NodeError(f"no room for its slot, {instance.slot_bytes / 2**20:.0f} MB and its copy")
        aside = own / f"{secrets.token_hex(8)}.bin"
        try:
            answer = _post(instance, "/slots/0?action=save", {"filename": aside.name})
            if answer.get("n_saved"):
                aside.replace(own / SAVED)
        finally:
            with suppress(FileNotFoundError):
                aside.unlink()


def save_if_stopped(folder: Path) -> None:
    """The same when the instance was stopped by a person or for a move: its workload has ended, its server has not."""
    ended = instances.read_outcome(folder)
    if ended and ended.outcome == STOPPED:
        save(folder)


def discard(own: Path) -> None:
    """Remove slots that were saved before, whole or in part."""
    for path in own.glob("*.bin"):
        if path.name != SENT:
            path.unlink()


@contextmanager
def saved(folder: Path) -> Iterator[Optional[Path]]:
    """Where the slot is that was saved last, for as long as this lasts; None without one."""
    with _own_folder(folder) as own:
        yield own / SAVED if os.path.lexists(str(own / SAVED)) else None


def put(folder: Path, file: BinaryIO, user: pwd.struct_passwd) -> None:
    """Put a slot where the instance's llama-server can read it. Raises OSError."""
    with _own_folder(folder) as own, (own / SENT).open("xb") as copy:
        shutil.copyfileobj(file, copy)
        os.fchown(copy.fileno(), user.pw_uid, user.pw_gid)


def restore(folder: Path) -> Optional[Restored]:
    """Have a llama-server that has just started take the slot that was put there, once; None where there is none.

    What came of it is written down. Raises OSError, ContractError.
    """
    instance = instances.read_description(folder)
    with _own_folder(folder) as own:
        if not os.path.lexists(str(own / SENT)):
            return None
        try:
            tokens = _tokens(own / SENT, instance.context_size)
            came = _restore(instance, tokens) if tokens else Restored(problem="the slot's tokens cannot be read")
        finally:
            (own / SENT).unlink()
    if came.has_spoiled:
        shared_folder.write(Path(names.spoiled_file(instance.run_id, instance.id)), "", mode=0o600)
    text = json.dumps(came.to_json()) + "\n"
    shared_folder.write(Path(names.restored_file(instance.run_id, instance.id)), text, mode=0o600)
    return came


def restored(run_id: str, instance_id: str) -> Optional[Restored]:
    """What came of restoring an instance's slot; None where it had none. Raises ContractError."""
    try:
        return Restored.from_file(Path(names.restored_file(run_id, instance_id)), LIMIT, 0)
    except FileNotFoundError:
        return None


def without(run_id: str, instance_id: str) -> None:
    """Let llama-server be started anew: a slot that it failed to restore was removed."""
    with suppress(FileNotFoundError):
        os.unlink(names.spoiled_file(run_id, instance_id))


def forget(run_id: str, instance_id: str) -> None:
    """Forget what came of it."""
    without(run_id, instance_id)
    with suppress(FileNotFoundError):
        os.unlink(names.restored_file(run_id, instance_id))


def _restore(instance: InstanceDescription, tokens: List[int]) -> Restored:
    try:
        _wait_until_loaded(instance)
        _post(instance, "/slots/0?action=restore", {"filename": SENT})
        asked = {"prompt": tokens, "n_predict": 0, "id_slot": 0, "cache_prompt": True}
        timings = _post(instance, "/completion", asked).get("timings")
    except NodeError as error:
        return Restored(len(tokens), problem=str(error)[:1000])
    kept = timings.get("cache_n") if isinstance(timings, Mapping) else None
    return Restored(len(tokens), kept if isinstance(kept, int) else 0)


@contextmanager
def _own_folder(folder: Path) -> Iterator[Path]:
    """llama-server's folder, by a path that no link that is put in its place can lead elsewhere. Raises OSError."""
    descriptor = os.open(str(folder / names.CHECKPOINTS), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _tokens(path: Path, most: int) -> List[int]:
    """The tokens of a slot, as many as can be asked in a context of this size; none if they cannot be read."""
    descriptor = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        head = file.read(HEAD.size) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
        magic, _, count = HEAD.unpack(head) if len(head) == HEAD.size else (0, 0, 0)
        data = file.read(4 * min(count, most + 3))
    values = list(struct.unpack(f"<{len(data) // 4}i", data[: len(data) // 4 * 4]))
    if magic != MAGIC:
        return []
    if values[:1] == [MARK]:
        values = values[3 : 3 + values[2]] if values[1:2] == [VERSION] and len(values) > 3 else []
    return values[: most - 1]


def _wait_until_loaded(instance: InstanceDescription) -> None:
    """Until llama-server answers, which a large model delays. Raises NodeError when it has ended."""
    while health.ask(_pid(instance), f"{instance.llama_url}/health") != "200":
        if _pid(instance) == "0":
            raise NodeError("llama-server ended before it had loaded its model")
        time.sleep(LOOK_SECONDS)


def _pid(instance: InstanceDescription) -> str:
    unit = names.unit_name(instance.run_id, instance.id, names.LLAMA)
    return systemd.show([unit])[unit]["MainPID"]


def _post(instance: InstanceDescription, path: str, body: Mapping[str, Any]) -> Dict[str, Any]:
    """What llama-server answers. Raises NodeError."""
    pid = _pid(instance)
    connection = http.client.HTTPConnection(urlsplit(instance.llama_url).netloc, timeout=ANSWER_SECONDS)
    try:
        if pid == "0":
            raise OSError("it does not run")
        with health.network_of(pid):
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read(ANSWER_BYTES))
    except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
        raise NodeError(f"llama-server does not answer to {path}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != 200 or not isinstance(answer, dict):
        raise NodeError(f"llama-server answers {response.status} to {path}: {json.dumps(answer)[:300]}")
    return answer
