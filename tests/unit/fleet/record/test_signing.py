"""Manifests are signed and verified with real keys, and what was not signed so is distinguished from what was."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.base.errors import SigningError, Unsigned
from fleet.record import signing
from fleet.record.run_folder import MANIFEST, SIGNATURE, Run
from fleet.record.signing import Keys

RUN = "split_brain_20261123T141500Z_3f2a"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without keys, and no agent."""
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs", RUN, {"experiment": "name: x\n"}, {"assignments": {"a": "rpi1"}})


def new_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "", "-f", str(path)], check=True)
    return path


@pytest.fixture
def key(home: Path) -> Path:
    return new_key(home / ".ssh/id_ed25519")


@pytest.fixture
def agent(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path, str], None]]:
    """An ssh-agent; called with a key and its passphrase, it holds the key."""
    socket = home / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not socket.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        ask = home / "askpass"
        ask.write_text('#!/bin/sh\necho "$PASSPHRASE"\n')
        ask.chmod(0o700)

        def add(key: Path, passphrase: str) -> None:
            asked = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force", "PASSPHRASE": passphrase}
            subprocess.run(["ssh-add", "-q", str(key)], env={**os.environ, **asked}, check=True)

        yield add
        process.terminate()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_what_ones_own_key_has_signed_verifies(home: Path, run: Run, kind: str) -> None:
    key = new_key(home / f".ssh/id_{kind}", kind=kind)
    assert signing.sign(run, Keys())
    manifest, who = signing.verify(run, Keys())
    assert manifest == run.manifest
    fingerprint = subprocess.run(["ssh-keygen", "-l", "-f", str(key)], capture_output=True, text=True, check=True)
    assert who == f"you, {kind.upper()} key {fingerprint.stdout.split()[1]}"


def test_signing_twice_changes_nothing(key: Path, run: Run) -> None:
    signing.sign(run, Keys())
    before = (run.path / SIGNATURE).read_bytes()
    assert not signing.sign(run, Keys())
    assert (run.path / SIGNATURE).read_bytes() == before


def test_a_single_changed_byte_is_found(key: Path, run: Run) -> None:
    signing.sign(run, Keys())
    path = run.path / MANIFEST
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(SigningError, match=r"manifest\.json: is not what was signed"):
        signing.verify(run, Keys())


def test_a_changed_manifest_is_never_signed_over(key: Path, run: Run) -> None:
    signing.sign(run, Keys())
    before = (run.path / SIGNATURE).read_bytes()
    (run.path / MANIFEST).write_text("{}")
    with pytest.raises(SigningError, match="is not what was signed"):
        signing.sign(run, Keys())
    assert (run.path / SIGNATURE).read_bytes() == before


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"])
def test_a_damaged_signature_does_not_hold(key: Path, run: Run, text: str) -> None:
    (run.path / SIGNATURE).write_text(text)
    with pytest.raises(SigningError, match="is not what was signed"):
        signing.verify(run, Keys())


def test_a_run_without_a_signature_is_answered_with_how_to_sign_it(key: Path, run: Run) -> None:
    with pytest.raises(Unsigned, match=rf"is not signed; .*playbooks/sign\.yml -e run={RUN}"):
        signing.verify(run, Keys())


def test_another_key_does_not_count_until_it_is_allowed(home: Path, key: Path, run: Run) -> None:
    other = new_key(home / "other")
    signing.sign(run, Keys(signing_key=str(other)))
    with pytest.raises(SigningError, match=r"signed with ED25519 key SHA256:.*not a key of yours.*allowed_signers"):
        signing.verify(run, Keys())
    allowed = home / "allowed"
    allowed.write_text(f"max@lab {other.with_suffix('.pub').read_text()}")
    assert signing.verify(run, Keys(allowed_signers=str(allowed)))[1].startswith("max@lab, ED25519 key SHA256:")


def test_a_file_of_allowed_signers_is_the_whole_list(home: Path, key: Path, run: Run) -> None:
    signing.sign(run, Keys())
    allowed = home / "allowed"
    allowed.write_text(f"max@lab {new_key(home / 'other').with_suffix('.pub').read_text()}")
    with pytest.raises(SigningError, match=f"not in {allowed}"):
        signing.verify(run, Keys(allowed_signers=str(allowed)))
    with pytest.raises(SigningError, match="correct manifest_allowed_signers"):
        signing.verify(run, Keys(allowed_signers=str(home / "missing")))


def test_a_signature_made_for_something_else_is_none_of_a_manifest(key: Path, run: Run) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(key), str(run.path / MANIFEST)], check=True
    )
    with pytest.raises(SigningError, match="namespace"):
        signing.verify(run, Keys())


def test_an_allowed_signer_of_other_things_only_is_not_one_of_manifests(home: Path, key: Path, run: Run) -> None:
    signing.sign(run, Keys())
    allowed = home / "allowed"
    allowed.write_text(f'max@lab namespaces="git" {key.with_suffix(".pub").read_text()}')
    with pytest.raises(SigningError, match="not in"):
        signing.verify(run, Keys(allowed_signers=str(allowed)))


def test_without_a_key_it_says_how_to_make_one(run: Run) -> None:
    with pytest.raises(SigningError, match="ssh-keygen -t ed25519"):
        signing.sign(run, Keys())
    with pytest.raises(SigningError, match=r"nowhere/key: no such key; correct manifest_signing_key"):
        signing.sign(run, Keys(signing_key="/nowhere/key"))
    assert not (run.path / SIGNATURE).exists()


def test_a_passphrase_is_never_asked_for(home: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even of a program that would be asked, on a display that is there."""
    asked = home / "asked"
    ask = home / "ask"
    ask.write_text(f"#!/bin/sh\ntouch {asked}\nsleep 600\n")
    ask.chmod(0o700)
    monkeypatch.setenv("SSH_ASKPASS", str(ask))
    monkeypatch.setenv("DISPLAY", ":0")
    key = new_key(home / ".ssh/id_ed25519", "secret words")
    with pytest.raises(SigningError, match=f"needs its passphrase, and no ssh-agent holds it; `ssh-add {key}`"):
        signing.sign(run, Keys())
    assert not asked.exists()


@pytest.mark.parametrize("private_there", [True, False])
def test_an_agent_signs_for_a_key_with_a_passphrase(
    home: Path, run: Run, agent: Callable[[Path, str], None], private_there: bool
) -> None:
    key = new_key(home / ".ssh/id_ed25519", "secret words")
    agent(key, "secret words")
    if not private_there:
        key.unlink()
    signing.sign(run, Keys())
    assert signing.verify(run, Keys())[1].startswith("you, ED25519")


def test_a_public_key_without_its_agent_is_reported(home: Path, key: Path, run: Run) -> None:
    alone = shutil.copy(key.with_suffix(".pub"), home / "alone.pub")
    with pytest.raises(SigningError, match=f"no ssh-agent holds it; `ssh-add {home}/alone`"):
        signing.sign(run, Keys(signing_key=alone))


def test_a_key_without_its_public_half_beside_it_verifies_too(key: Path, run: Run) -> None:
    key.with_suffix(".pub").unlink()
    signing.sign(run, Keys())
    assert signing.verify(run, Keys())[1].startswith("you, ED25519")


def test_an_older_key_of_ones_own_still_counts(home: Path, run: Run) -> None:
    new_key(home / ".ssh/id_rsa", kind="rsa")
    signing.sign(run, Keys())
    new_key(home / ".ssh/id_ed25519")
    assert signing.verify(run, Keys())[1].startswith("you, RSA")


def test_changing_the_manifest_drops_its_signature_or_renews_it(key: Path, run: Run) -> None:
    signing.sign(run, Keys())
    signing.update(run, Keys(), llama_cpp={"rpi1": "abc"})
    assert signing.verify(run, Keys())[0]["llama_cpp"] == {"rpi1": "abc"}
    run.update_manifest(llama_cpp={})
    with pytest.raises(Unsigned):
        signing.verify(run, Keys())


def test_what_was_tampered_with_meanwhile_is_not_signed_with_the_next_change(key: Path, run: Run) -> None:
    signing.sign(run, Keys())
    path = run.path / MANIFEST
    path.write_text(path.read_text().replace("name: x", "name: y"))
    with pytest.raises(SigningError, match="is not what was signed"):
        signing.update(run, Keys(), llama_cpp={"rpi1": "abc"})
    assert run.manifest["llama_cpp"] == {"rpi1": "abc"}
    assert not (run.path / SIGNATURE).exists()


def test_the_private_key_is_named_by_its_path_only(home: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ssh-keygen is called with, seen by a program in its place."""
    seen, real = home / "seen", shutil.which("ssh-keygen")
    wrapper = home / "bin" / "ssh-keygen"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {seen}\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    key = new_key(home / ".ssh/id_ed25519")
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    signing.sign(run, Keys())
    assert seen.read_text().split() == ["-Y", "sign", "-n", "jarfleet-manifest", "-f", str(key)]
