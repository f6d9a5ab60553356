"""One build of llama.cpp on its builder, made once and kept under its key.

The key is a digest of all that decides the binary - source, flags, targets, compiler, libc or CUDA release, recipe -
and never of names or paths. The build runs on after the caller has gone; a second caller joins it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import time
import zipfile
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from contract.json_records import Record

from .errors import NodeError

TOOLS = ("cmake", "ninja", "ccache")
FAILED = "FAILED"  # begins the last line of the log of a build that failed

RECIPE = "1"  # part of the key: raise it when this file changes what a build is


@dataclass(frozen=True)
class BuildRequest(Record):
    """What to build. The module's documentation says what each field means."""

    store: str
    name: str
    source_sha256: str
    commit: str
    cmake: Mapping[str, Any]
    targets: Tuple[str, ...]
    packages: Tuple[str, ...]
    source: Optional[str] = None
    toolchain: str = ""
    compiler: str = "c++"
    wait_seconds: float = 0.0


class Build(NamedTuple):
    """The state of a build. status: built, running, or needed (no source was given, or in a check)."""

    key: str
    decides: Dict[str, Any]
    path: str
    status: str
    progress: str
    log: str
    changed: bool


def ask(wanted: BuildRequest, check: bool) -> Build:
    """Start the build, join a running one, or find it built. Raises NodeError if it failed or tools are missing."""
    toolchain = toolchain_of(wanted)
    decided = decides(wanted, toolchain)
    key = key_of(decided)
    path, log = os.path.join(wanted.store, "builds", key), os.path.join(wanted.store, key + ".log")

    def found(status: str, changed: bool = False) -> Build:
        return Build(key, decided, path, status, last_line(log), log, changed)

    if os.path.isdir(path):
        return found("built")
    if check:
        return found("needed", True)
    missing = [tool for tool in (*TOOLS, wanted.compiler) if not shutil.which(tool)]
    if missing:
        raise NodeError(
            f"build {wanted.name}: {', '.join(missing)} missing on the builder;"
            f" apt-get install {' '.join(wanted.packages)}"
        )
    os.makedirs(wanted.store, exist_ok=True)
    lock = os.open(os.path.join(wanted.store, key + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    if not locked(lock, wanted.wait_seconds):
        return found("running")
    if os.path.isdir(path):  # finished while we asked
        return found("built")
    if last_line(log).startswith(FAILED):
        with open(log, encoding="utf-8", errors="replace") as said:
            tail = said.read()[-3000:]
        os.unlink(log)  # reported once; the next call tries again
        raise NodeError(f"build {wanted.name} of llama.cpp failed:\n{tail}")
    if not wanted.source:
        return found("needed")
    with open(log, "w", encoding="utf-8") as said:
        said.write(time.strftime("started %Y-%m-%dT%H:%M:%SZ\n", time.gmtime()))
    start(wanted, toolchain, key, log, lock)
    return found("running", True)


def output(command: List[str]) -> str:
    """What a tool prints; "" when it is not there."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.stdout.strip()
    except OSError:
        return ""


def toolchain_of(wanted: BuildRequest) -> Dict[str, str]:
    """The parts of this machine's toolchain that decide the binary."""
    static = "-static" in str(wanted.cmake.get("CMAKE_EXE_LINKER_FLAGS", "")).split()
    nvcc = wanted.cmake.get("CMAKE_CUDA_COMPILER", "nvcc") if wanted.cmake.get("GGML_CUDA") == "ON" else ""
    return {
        "compiler": output([wanted.compiler, "-dumpfullversion", "-dumpversion"]),
        "triple": output([wanted.compiler, "-dumpmachine"]),
        "libc": "static" if static else " ".join((os.confstr("CS_GNU_LIBC_VERSION") or "").split()),
        "cuda": output([nvcc, "--version"]).split("\n")[-1] if nvcc else "",
    }


def decides(wanted: BuildRequest, toolchain: Mapping[str, str]) -> Dict[str, Any]:
    """All that decides the binary; the build's key is a digest of it."""
    return {
        "recipe": RECIPE,
        "source": wanted.source_sha256,
        "commit": wanted.commit,
        "cmake": {key: str(value) for key, value in wanted.cmake.items()},
        "toolchain_file": wanted.toolchain,
        "targets": sorted(wanted.targets),
        **toolchain,
    }


def key_of(decided: Mapping[str, Any]) -> str:
    """The build's key."""
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:20]


def last_line(path: str) -> str:
    """The last line of a log that says something; "" when there is none."""
    try:
        with open(path, "rb") as log:
            log.seek(max(0, os.path.getsize(path) - 4096))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")


def unpack(archive: str, into: str) -> str:
    """Unpack a source archive and return the folder in it that holds llama.cpp's own CMakeLists.txt."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(into)  # noqa: S202 - its sha256 was verified
    else:
        with tarfile.open(archive) as opened:
            if hasattr(tarfile, "data_filter"):
                opened.extractall(into, filter="data")
            else:  # an older Python
                opened.extractall(into)  # noqa: S202 - its sha256 was verified
    for folder, folders, files in sorted(os.walk(into)):
        if "CMakeLists.txt" in files and "ggml" in folders:
            pointer = os.path.join(folder, ".git")
            if os.path.isfile(pointer):  # a submodule's pointer to nowhere makes ninja regenerate for ever
                os.unlink(pointer)
            return folder
    raise RuntimeError(f"{archive} holds no llama.cpp: no CMakeLists.txt beside a folder ggml")


def build(wanted: BuildRequest, toolchain: Mapping[str, str], key: str, log: str) -> None:
    """Build aside and rename the result into place. Runs in a process of its own, whose output goes to the log."""
    work, final = os.path.join(wanted.store, key + ".work"), os.path.join(wanted.store, "builds", key)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    source = unpack(wanted.source or "", os.path.join(work, "src"))
    environment = {
        **os.environ,
        "CCACHE_DIR": os.path.join(wanted.store, "ccache"),
        "CCACHE_BASEDIR": work,
        "CCACHE_NOHASHDIR": "1",
    }
    entries = {
        **wanted.cmake,
        "LLAMA_BUILD_COMMIT": wanted.commit,
        "CMAKE_C_COMPILER_LAUNCHER": "ccache",
        "CMAKE_CXX_COMPILER_LAUNCHER": "ccache",
        "CMAKE_INSTALL_RPATH": "$ORIGIN",
    }
    if wanted.toolchain:
        entries["CMAKE_TOOLCHAIN_FILE"] = os.path.join(work, "toolchain.cmake")
        with open(entries["CMAKE_TOOLCHAIN_FILE"], "w", encoding="utf-8") as handle:
            handle.write(wanted.toolchain)
    made = os.path.join(work, "build")
    configure = ["cmake", "-S", source, "-B", made, "-G", "Ninja"]
    configure += [f"-D{name}={value}" for name, value in sorted(entries.items())]
    with open(log, "ab") as said:
        for command in (configure, ["ninja", "-C", made, *wanted.targets]):
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment)
    ready = os.path.join(work, "ready")
    os.makedirs(os.path.join(ready, "bin"))
    for target in wanted.targets:
        shutil.copy2(os.path.join(made, "bin", target), os.path.join(ready, "bin", target))
    about = {"key": key, "name": wanted.name, "commit": wanted.commit, "cmake": wanted.cmake, **toolchain}
    with open(os.path.join(ready, "build.json"), "w", encoding="utf-8") as handle:
        json.dump(about, handle, indent=2, sort_keys=True)
    os.makedirs(os.path.dirname(final), exist_ok=True)
    os.rename(ready, final)
    shutil.rmtree(work, ignore_errors=True)


def start(wanted: BuildRequest, toolchain: Mapping[str, str], key: str, log: str, lock: int) -> None:
    """Leave a process behind that builds; it holds the lock until it ends, however it ends."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # else Ansible waits for the pipe
        os.dup2(null, stream)
    os.set_inheritable(lock, False)
    try:
        build(wanted, toolchain, key, log)
    except BaseException as error:
        with open(log, "a", encoding="utf-8") as said:
            said.write(f"{FAILED}: {error}\n")
    os._exit(0)


def locked(lock: int, seconds: float) -> bool:
    """Take the lock, waiting so long for the building process that holds it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.5)
