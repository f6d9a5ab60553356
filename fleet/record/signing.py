"""Sign a run's manifest with its owner's SSH key, by `ssh-keygen -Y`; the signature is a file beside it.

The bytes of `manifest.json` are signed. The other files are bound through it: the plan by its sha256, the experiment by
its text, code and models by their hashes. No private key is read here: ssh-keygen or the agent signs, and neither
prompts for anything.
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

NAMESPACE = "jarfleet-manifest"  # a signature made for another purpose is not valid for a manifest
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")  # in ~/.ssh; the first that exists
TIMEOUT = 30  # seconds; an agent may ask its owner on a display to confirm
MAX_BYTES = 1 << 16  # of a signature; one of RSA 4096 has about 1600
STATED = ("experiment_sha256", "plan_sha256", "code", "models", "llama_cpp")
SIGN = "ansible-playbook playbooks/sign.yml -e run="


@dataclass(frozen=True)
class Keys:
    """The key that signs, and the keys whose signatures count.

    signing_key: the path of a private key, or of a public key whose private one an agent holds; "": the first of
    DEFAULT_KEYS. allowed_signers: a file as ssh-keygen(1) describes it; "": only the user's own keys.
    """

    signing_key: str = ""
    allowed_signers: str = ""

    def sign(self, data: bytes) -> str:
        """Return the armoured signature of `data`. Raise SigningError with the reason and what to do."""
        own = self._own()
        if not own:
            raise SigningError(
                f"there is no SSH key to sign with, in manifest_signing_key or in ~/.ssh ({', '.join(DEFAULT_KEYS)}); "
                "`ssh-keygen -t ed25519` makes one"
            )
        key = own[0]
        if not key.exists():
            raise SigningError(f"{key}: no such key; correct manifest_signing_key")
        # Pass the data on standard input, so that ssh-keygen cannot ask whether to overwrite an older signature.
        done = _ssh_keygen(["-Y", "sign", "-n", NAMESPACE, "-f", str(key)], data)
        if done.returncode != 0 or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
            said = _said(done)
            if "passphrase" in said or "No private key found" in said:
                private = str(key).removesuffix(".pub")
                raise SigningError(f"{key}: needs its passphrase, and no ssh-agent holds it; `ssh-add {private}`")
            raise SigningError(f"{key}: ssh-keygen cannot sign with it: {said}")
        return done.stdout.decode("ascii")

    def verify(self, data: bytes, signature: bytes) -> str:
        """Return who signed `data`: the name that the allowed signers give to the key, and the key's fingerprint.

        Raise SigningError if `data` is not what was signed, or the key is not allowed.
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
        """Return the user's own keys, the signing one first; for each, the public half is enough."""
        if self.signing_key:
            return [Path(self.signing_key).expanduser()]
        folder = Path.home() / ".ssh"
        halves = [(folder / name, folder / f"{name}.pub") for name in DEFAULT_KEYS]
        return [found for pair in halves if (found := next((half for half in pair if half.exists()), None))]

    def _allowed(self) -> bytes:
        """Return the allowed signers: the file's content, or one line for each of the user's own keys."""
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
    """Sign the manifest of an unsigned run. Return False if it already has a valid signature.

    Raise SigningError if it has an invalid one, which is never replaced: whoever changed the manifest must confirm that
    by removing it. check: sign, but do not store the signature.
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
    """Change top-level keys of the manifest, and sign it anew.

    Raise SigningError if it could not be signed or had no valid signature before; it is then changed but unsigned.
    """
    try:
        verify(run, keys)
    finally:
        run.update_manifest(**changes)
    sign(run, keys)


def verify(run: Run, keys: Keys) -> tuple[dict[str, Any], str]:
    """Return the manifest as it was signed, and who signed it. Raise Unsigned or SigningError."""
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
        # Parse the bytes that were verified, since the file may change meanwhile.
        manifest = json.loads(data)
    except SigningError as error:
        raise SigningError(f"{path}: {error}") from error
    except ValueError as error:
        raise SigningError(f"{path}: is not JSON: {error}") from error
    return manifest, who


def statement(manifest: Mapping[str, Any]) -> str:
    """Return what a signature of this manifest confirms, for the signing person.

    Raise SigningError if keys are missing.
    """
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
    """Return the public half as one line; empty if it cannot be read without a passphrase."""
    beside = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    if beside.is_file():
        return beside.read_bytes().strip()
    return _ssh_keygen(["-y", "-P", "", "-f", str(key)], b"").stdout.strip()


def _ssh_keygen(words: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    # In its own session ssh-keygen has no terminal to ask for a passphrase, and it must not open a window for it.
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
    """Return the key that ssh-keygen names: `ED25519 key SHA256:...`."""
    return done.stdout.decode(errors="replace").strip().rpartition(" with ")[2]
