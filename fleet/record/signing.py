"""A run's manifest is signed with its owner's SSH key, by `ssh-keygen -Y`: the signature lies beside it.

What is signed are the bytes of `manifest.json`. What lies beside it is bound through it: the plan by its sha256, the
experiment by its text, code and models by their hashes. No private key is read here: ssh-keygen or the agent signs, and
neither ever asks anybody for anything.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.base.errors import SigningError, Unsigned
from fleet.base.files import write_text
from fleet.base.text_table import table
from fleet.record.run_folder import MANIFEST, SIGNATURE, Run

NAMESPACE = "jarfleet-manifest"  # so that a signature made for something else is none of a manifest, and the reverse
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")  # of ~/.ssh, the first that is there
TIMEOUT = 30  # seconds; an agent may ask its owner, who has a display, to confirm
MAX_BYTES = 1 << 16  # of a signature; one of RSA 4096 has about 1600
STATED = ("experiment_sha256", "plan_sha256", "code", "models", "llama_cpp")
SIGN = "ansible-playbook playbooks/sign.yml -e run="


@dataclass(frozen=True)
class Keys:
    """Who signs, and whose signatures count.

    signing_key: a private key's path, or that of a public key whose private one an agent holds; "": the first of
    DEFAULT_KEYS. allowed_signers: a file as ssh-keygen(1) describes it; "": one's own keys, and nobody else's.
    """

    signing_key: str = ""
    allowed_signers: str = ""

    def sign(self, data: bytes) -> str:
        """The signature of `data`, armoured. SigningError says why there is none, and what to do."""
        own = self._own()
        if not own:
            raise SigningError(
                f"there is no SSH key to sign with, in manifest_signing_key or in ~/.ssh ({', '.join(DEFAULT_KEYS)}); "
                "`ssh-keygen -t ed25519` makes one"
            )
        key = own[0]
        if not key.exists():
            raise SigningError(f"{key}: no such key; correct manifest_signing_key")
        # What is signed comes by standard input, so ssh-keygen cannot ask whether to overwrite an older signature.
        done = _ssh_keygen(["-Y", "sign", "-n", NAMESPACE, "-f", str(key)], data)
        if done.returncode != 0 or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
            said = _said(done)
            if "passphrase" in said or "No private key found" in said:
                private = str(key).removesuffix(".pub")
                raise SigningError(f"{key}: needs its passphrase, and no ssh-agent holds it; `ssh-add {private}`")
            raise SigningError(f"{key}: ssh-keygen cannot sign with it: {said}")
        return done.stdout.decode("ascii")

    def verify(self, data: bytes, signature: bytes) -> str:
        """Who signed `data`: the name that the allowed signers give to the key, and the key's fingerprint.

        Raises SigningError when `data` is not what was signed, or the key is none of those allowed.
        """
        with tempfile.TemporaryDirectory(prefix="jarfleet.verify.") as folder:
            signed, allowed = Path(folder) / SIGNATURE, Path(folder) / "allowed_signers"
            signed.write_bytes(signature)
            allowed.write_bytes(self._allowed())
            given = ["-n", NAMESPACE, "-s", str(signed)]
            check = _ssh_keygen(["-Y", "check-novalidate", *given], data)
            if check.returncode != 0:
                raise SigningError(f"is not what was signed: it or {SIGNATURE} was changed since ({_said(check)})")
            listed = ["-f", str(allowed)]
            names = _ssh_keygen(["-Y", "find-principals", "-s", str(signed), *listed], b"")
            for name in names.stdout.decode(errors="replace").splitlines():
                done = _ssh_keygen(["-Y", "verify", *given, *listed, "-I", name], data)
                if done.returncode == 0:
                    return f"{name}, {_key(done)}"
        who = f"in {self.allowed_signers}" if self.allowed_signers else "a key of yours"
        raise SigningError(
            f"is signed with {_key(check)}, which is not {who}; if you trust its owner, name a file with that "
            "public key, in the form of ssh-keygen's allowed signers, in manifest_allowed_signers"
        )

    def _own(self) -> list[Path]:
        """One's own keys, the one that signs first; each may be there as its public half alone."""
        if self.signing_key:
            return [Path(self.signing_key).expanduser()]
        folder = Path.home() / ".ssh"
        halves = [(folder / name, folder / f"{name}.pub") for name in DEFAULT_KEYS]
        return [found for pair in halves if (found := next((half for half in pair if half.exists()), None))]

    def _allowed(self) -> bytes:
        """The allowed signers: the file's text, or a line for each key of one's own."""
        if self.allowed_signers:
            path = Path(self.allowed_signers).expanduser()
            try:
                return path.read_bytes()
            except OSError as error:
                raise SigningError(
                    f"{path}: cannot be read: {error.strerror}; correct manifest_allowed_signers"
                ) from error
        lines = [
            b'you namespaces="%s" %s\n' % (NAMESPACE.encode(), public)
            for key in self._own()
            if (public := _public(key))
        ]
        return b"".join(lines)


def sign(run: Run, keys: Keys, *, check: bool = False) -> bool:
    """Sign the manifest of a run that has no signature. False when it has one that holds, SigningError otherwise.

    A signature that does not hold is never replaced: whoever changed the manifest must say so by removing it. check:
    sign, and do not keep it.
    """
    try:
        verify(run, keys)
    except Unsigned:
        signature = keys.sign((run.path / MANIFEST).read_bytes())
        if not check:
            write_text(run.path / SIGNATURE, signature)
        return True
    return False


def update(run: Run, keys: Keys, **changes: Any) -> None:
    """Change top-level keys of the manifest, and sign it anew. SigningError when it could not be signed, or did not
    verify before: then it is changed all the same, and unsigned."""
    try:
        verify(run, keys)
    finally:
        run.update_manifest(**changes)
    sign(run, keys)


def verify(run: Run, keys: Keys) -> tuple[dict[str, Any], str]:
    """The manifest as it was signed, and who signed it. Raises Unsigned or SigningError."""
    path, signature = run.path / MANIFEST, run.path / SIGNATURE
    try:
        data = path.read_bytes()
        signed = signature.read_bytes()[:MAX_BYTES] if signature.exists() else None
    except OSError as error:
        raise SigningError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if signed is None:
        raise Unsigned(f"{path}: is not signed; look at it, and if it is yours, `{SIGN}{run.run_id}` signs it")
    try:
        who = keys.verify(data, signed)
        # What is read is what was verified, whatever becomes of the file meanwhile.
        manifest = json.loads(data)
    except SigningError as error:
        raise SigningError(f"{path}: {error}") from error
    except ValueError as error:
        raise SigningError(f"{path}: is not JSON: {error}") from error
    return manifest, who


def statement(manifest: Mapping[str, Any]) -> str:
    """What a signature of this manifest says, for the person who gives it. SigningError where it would say nothing."""
    if missing := [key for key in STATED if key not in manifest]:
        raise SigningError(f"{MANIFEST}: {', '.join(missing)} is missing: it does not say what was run")
    code = manifest["code"]
    rows = [
        ("run", manifest["run_id"]),
        ("experiment", f"sha256 {manifest['experiment_sha256']}"),
        ("plan", f"sha256 {manifest['plan_sha256']}"),
        ("code", f"{code['hash']} from {code['source']}"),
        *((f"model of {id}", f"sha256 {model['sha256']}") for id, model in manifest["models"].items()),
        *((f"llama.cpp of {node}", key) for node, key in manifest["llama_cpp"].items()),
    ]
    return table(("signed", ""), rows)


def _public(key: Path) -> bytes:
    """The public half as one line; empty when nobody can tell it without a passphrase."""
    beside = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    if beside.is_file():
        return beside.read_bytes().strip()
    return _ssh_keygen(["-y", "-P", "", "-f", str(key)], b"").stdout.strip()


def _ssh_keygen(words: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    # In a session of its own it has no terminal to ask for a passphrase on; and it must open no window for it.
    environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}
    try:
        return subprocess.run(  # noqa: S603 - a list, no shell
            ["ssh-keygen", *words],  # noqa: S607 - OpenSSH's own, as ssh itself is found
            input=data,
            capture_output=True,
            env=environment,
            start_new_session=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SigningError(
            f"ssh-keygen did not finish within {TIMEOUT} s: does the agent wait for somebody?"
        ) from error
    except OSError as error:
        raise SigningError(f"ssh-keygen: {error.strerror}; apt-get install openssh-client") from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode(errors="replace").splitlines()
    return "; ".join(dict.fromkeys(line.strip() for line in lines if line.strip())) or f"exit code {done.returncode}"


def _key(done: subprocess.CompletedProcess[bytes]) -> str:
    """The key that ssh-keygen names: `ED25519 key SHA256:...`."""
    return done.stdout.decode(errors="replace").strip().rpartition(" with ")[2]
