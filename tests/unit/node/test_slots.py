"""llama-server's slot in a folder that is the instance's own, where anything may lie under any name."""

from __future__ import annotations

import io
import json
import os
import pwd
import struct
from pathlib import Path

import pytest

from contract import names
from contract.description import InstanceDescription
from contract.slot import Restored
from node import slots

ME = pwd.getpwuid(os.getuid())
TOKENS = [5, 6, 7, 8]


def slot(*values: int, magic: int = slots.MAGIC) -> bytes:
    return slots.HEAD.pack(magic, 3, len(values)) + struct.pack(f"<{len(values)}i", *values) + b"and what it computed"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An instance's folder, on a node where its llama-server does not run."""
    made = tmp_path / "a"
    (made / names.CHECKPOINTS).mkdir(parents=True)
    one = InstanceDescription(
        "x_20261123T141500Z_aaaa", "a", made, "http://127.0.0.1:1", context_size=8, slot_bytes=2**10
    )
    (made / names.DESCRIPTION).write_text(json.dumps(one.to_json()))
    monkeypatch.setattr(names, "PROBES_FOLDER", str(tmp_path))
    monkeypatch.setattr(slots.systemd, "show", lambda units: {unit: {"MainPID": "0"} for unit in units})
    return made


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        (slot(*TOKENS), TOKENS),  # as older versions have it
        (slot(-1, 1, 4, *TOKENS, 0), TOKENS),
        (slot(*range(20)), list(range(7))),  # more than the context has
        (slot(-1, 2, 4, *TOKENS), []),  # a version to come
        (slot(-1, 1), []),
        (slot(), []),
        (slot(*TOKENS, magic=1), []),
        (b"ggsq", []),
        (b"", []),
    ],
)
def test_the_tokens_of_a_slot_are_read_as_far_as_they_are_known(
    content: bytes, tokens: list[int], tmp_path: Path
) -> None:
    (tmp_path / "slot").write_bytes(content)
    assert slots._tokens(tmp_path / "slot", 8) == tokens


def test_a_slot_is_given_to_llama_server_once_and_what_comes_of_it_is_kept(folder: Path) -> None:
    slots.put(folder, io.BytesIO(slot(*TOKENS)), ME)
    came = slots.restore(folder)
    assert came
    assert came.has_spoiled
    assert "ended before it had loaded" in came.problem
    assert slots.restored("x_20261123T141500Z_aaaa", "a") == came
    assert slots.restore(folder) is None, "it was removed"


def test_a_slot_that_cannot_be_read_spoils_nothing(folder: Path) -> None:
    slots.put(folder, io.BytesIO(b"nonsense"), ME)
    came = slots.restore(folder)
    assert came == Restored(problem="the slot's tokens cannot be read")
    assert not came.has_spoiled


def test_a_link_in_place_of_the_folder_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.bin").touch()
    (folder / names.CHECKPOINTS).rmdir()
    (folder / names.CHECKPOINTS).symlink_to(elsewhere)
    for act in (slots.save, slots.restore, lambda path: slots.put(path, io.BytesIO(b""), ME)):
        with pytest.raises(OSError, match="Not a directory"):
            act(folder)
    assert [path.name for path in elsewhere.iterdir()] == ["precious.bin"]


def test_a_pipe_in_place_of_a_slot_holds_nobody_up(folder: Path) -> None:
    os.mkfifo(folder / names.CHECKPOINTS / slots.SENT)
    assert slots.restore(folder) == Restored(problem="the slot's tokens cannot be read")


@pytest.mark.parametrize(
    ("came", "words"),
    [
        (Restored(100, 99), "token for token (100 tokens)"),
        (Restored(1, 1), "token for token (1 tokens)"),
        (Restored(100, 0), "from the transcript: 0 of 100 tokens were kept"),
        (Restored(0, 0), "from the transcript: 0 of 0 tokens were kept"),
        (Restored(problem="torn"), "from the transcript: torn"),
    ],
)
def test_it_is_said_how_an_instance_goes_on(came: Restored, words: str) -> None:
    assert came.words == words
