"""Code from a repository that asks for a password: git gets it, and nothing else does."""

from __future__ import annotations

import base64
import functools
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fleet.artifacts import git
from fleet.base.errors import ReleaseError

USER, PASSWORD = "me@home", "hu$h \"hush'"  # nosec
TLS = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"


class Private(SimpleHTTPRequestHandler):
    """Serves files to who knows the password, and looks meanwhile at the arguments of all processes."""

    def do_GET(self) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                self.server.seen.append(path.read_bytes().decode(errors="replace"))  # type: ignore[attr-defined]
            except OSError:
                continue
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") == wanted:
            super().do_GET()
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="private"')
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """A repository at https://localhost:<port>/repo.git."""
    work, bare = tmp_path / "work", tmp_path / "served" / "repo.git"
    identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
    subprocess.run(["git", "init", "-q", work], check=True)
    (work / "main.py").write_text("print(1)\n")
    subprocess.run(["git", "add", "."], cwd=work, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "x"], cwd=work, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", work, bare], check=True)
    subprocess.run(["git", "update-server-info"], cwd=bare, check=True)
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", *TLS.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handler = functools.partial(Private, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("localhost", 0), handler) as made:
        made.seen = []  # type: ignore[attr-defined]
        made.socket = context.wrap_socket(made.socket, server_side=True)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def test_a_password_is_in_no_argument_and_in_no_file(tmp_path: Path, server: Any) -> None:
    address = f"https://me%40home:hu$h%20%22hush'@localhost:{server.server_port}/repo.git"
    cache = tmp_path / "cache"
    for number in range(2):  # the first clones, the second fetches
        git.export(address, None, tmp_path / f"out{number}", cache)
        assert (tmp_path / f"out{number}" / "main.py").read_text() == "print(1)\n"
    assert any("remote-https" in words for words in server.seen), "it did look while git was at work"
    secrets = ("hush", "hu$h", "me@home", "me%40home")
    assert [words for words in server.seen if any(secret in words for secret in secrets)] == []
    files = [Path(folder) / name for folder, _, names in os.walk(cache) for name in names]
    assert [path for path in files if any(secret.encode() in path.read_bytes() for secret in secrets)] == []


def test_a_wrong_password_is_not_repeated_in_the_message(tmp_path: Path, server: Any) -> None:
    address = f"https://me:wr0ng@localhost:{server.server_port}/repo.git"
    with pytest.raises(ReleaseError) as error:
        git.export(address, None, tmp_path / "out", None)
    assert "wr0ng" not in str(error.value)


def test_a_password_with_a_line_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="control character"):
        git.export("https://me:a%0Ahost=evil@localhost/repo.git", None, tmp_path / "out", None)
