"""Download a file from a URL into the cache: streamed, verified while streaming, and stored atomically."""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from fleet.base.addresses import redacted
from fleet.base.errors import FleetError
from fleet.base.files import CHUNK, locked, sync_folder

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in total (None: the server does not state it)
SCHEMES = ("https", "http", "file")
TIMEOUT = 60  # seconds without receiving a byte


def download(
    url: str, target: Path, sha256: str, error: type[FleetError], *, magic: tuple[bytes, ...], progress: Progress | None
) -> None:
    """Download `url` to `target` unless that file exists. It must match `sha256` and begin with one of `magic`.

    Raise `error`, the caller's own class, with a message that says what to do. If two processes download the same
    file at once, the second waits and then finds the file.
    """
    shown = redacted(url)
    if urllib.parse.urlsplit(url).scheme not in SCHEMES:
        raise error(f"url {shown}: expected {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name per file, so that the next download overwrites what a killed one left behind.
    part = target.with_name(f".{target.name}.part")
    with locked(target.with_name(f".{target.name}.lock")):
        if target.is_file():
            return
        try:
            found = _stream(url, shown, part, error, magic, progress)
            if found != sha256:
                raise error(f"url {shown}: sha256 {found}, declared {sha256}; correct one of the two")
            part.replace(target)
            sync_folder(target.parent)
        except (OSError, http.client.HTTPException) as fault:  # URLError is an OSError
            reason = fault if isinstance(fault, urllib.error.HTTPError) else getattr(fault, "reason", None) or fault
            raise error(f"url {shown}: {reason}; check the address and the network, then run again") from fault
        finally:
            part.unlink(missing_ok=True)


def file_name(url: str) -> str:
    """Return the last part of the URL's path, made safe as a file name."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII).lstrip(".")[:200]


def kind_of(start: bytes) -> str:
    """Return what a file that begins like this probably is, in words: its content may be nobody's to see."""
    kinds = {
        b"version https://git-lfs": "a stub of git-lfs",
        b"<!doctype html": "an HTML page",
        b"<html": "an HTML page",
        b"pk\x03\x04": "a zip archive, such as a PyTorch checkpoint",
        **dict.fromkeys((b"lmgg", b"fmgg", b"tjgg"), "a model in the older GGML format"),
    }
    begins = start[:64].lstrip().lower()
    return next((kind for sign, kind in kinds.items() if begins.startswith(sign)), "another kind of file")


def _request(url: str) -> urllib.request.Request:
    """Return the request; user and password go into a header, which is not sent on to where the server may lead."""
    parts = urllib.parse.urlsplit(url)
    bare = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = urllib.request.Request(bare, headers={"User-Agent": "jarfleet"})  # noqa: S310 - the scheme was checked
    if "@" in parts.netloc:
        known = ":".join(urllib.parse.unquote(part or "") for part in (parts.username, parts.password))
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(known.encode()).decode()}")
    return request


def _stream(
    url: str, shown: str, part: Path, error: type[FleetError], magic: tuple[bytes, ...], progress: Progress | None
) -> str:
    digest, size = hashlib.sha256(), 0
    request = _request(url)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, part.open("wb") as file:  # noqa: S310 - as above
        length = answer.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        free = shutil.disk_usage(part.parent).free
        if total is not None and total > free:
            raise error(f"url {shown}: {total / 1e9:.1f} GB, but {part.parent} has {free / 1e9:.1f} GB left; make room")
        while chunk := answer.read(CHUNK):
            if size == 0 and not chunk.startswith(magic):
                raise error(f"url {shown}: expected a file that begins with {magic[0]!r}, got {kind_of(chunk)}")
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
            if progress:
                progress(size, total)
    if total is not None and size != total:
        raise error(f"url {shown}: broke off after {size} of {total} bytes; run again")
    return digest.hexdigest()
