#!/usr/bin/python
"""Ansible module: one build of llama.cpp, made once and kept under its key."""

from __future__ import annotations

DOCUMENTATION = r"""
module: llama_cpp_make
short_description: Make one build of llama.cpp on its builder
description:
  - The key is a digest of all that decides the binary - source, flags, targets, compiler, libc or CUDA release, recipe - and never of names or paths.
  - A build that is there is never made again. One that is under way is joined, also when another controller started it.
  - The build runs on after the module has returned, so a lost connection loses nothing.
  - For M(llama_cpp_build), which sends the source, shows progress, waits, and brings the result to the controller.
options:
  store: {description: Folder of the builds on the builder., type: path, required: true}
  name: {description: What a person calls the build., type: str, required: true}
  source_sha256: {description: Of the source archive., type: str, required: true}
  source: {description: The archive on the builder; not needed when the build is there., type: path}
  commit: {description: The commit that the binaries shall name., type: str, required: true}
  cmake: {description: CMake cache entries., type: dict, required: true}
  toolchain: {description: Text of a CMake toolchain file., type: str, default: ""}
  compiler: {description: The C++ compiler., type: str, default: c++}
  targets: {description: What to build., type: list, elements: str, required: true}
  packages: {description: Debian packages that bring the tools; named when one is missing., type: list, elements: str, required: true}
  wait_seconds: {description: Wait so long for a build that is under way., type: float, default: 0}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Start a build, or see how it fares
  llama_cpp_make:
    store: ~/.cache/jarfleet/llama.cpp
    name: x86_64
    source_sha256: 832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
    commit: 0c1e57098
    cmake: {CMAKE_BUILD_TYPE: Release}
    targets: [llama-server, llama-bench]
    packages: [cmake, ninja-build, g++, ccache]
"""

RETURN = r"""
key: {description: The build's key., returned: always, type: str}
decides: {description: All that decides the build; the key is a digest of it., returned: always, type: dict}
path: {description: Its folder on the builder; C(bin/) and C(build.json)., returned: always, type: str}
status: {description: "C(built), C(running), C(needed) (in check mode, or no source was given).", returned: always, type: str}
progress: {description: The last line of the build's log., returned: always, type: str}
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import time
import zipfile

from ansible.module_utils.basic import AnsibleModule

RECIPE = "1"  # part of the key: raise it when this file changes what a build is


def output(command: list[str]) -> str:
    """The first line that a tool prints; "" when it is not there."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.stdout.strip()
    except OSError:
        return ""


def toolchain_of(given: dict) -> dict[str, str]:
    """What of this machine decides the binary."""
    static = "-static" in str(given["cmake"].get("CMAKE_EXE_LINKER_FLAGS", "")).split()
    nvcc = given["cmake"].get("CMAKE_CUDA_COMPILER", "nvcc") if given["cmake"].get("GGML_CUDA") == "ON" else ""
    return {
        "compiler": output([given["compiler"], "-dumpfullversion", "-dumpversion"]),
        "triple": output([given["compiler"], "-dumpmachine"]),
        "libc": "static" if static else " ".join(os.confstr("CS_GNU_LIBC_VERSION").split()),
        "cuda": output([nvcc, "--version"]).split("\n")[-1] if nvcc else "",
    }


def decides(given: dict, toolchain: dict[str, str]) -> dict:
    """All that decides the binary; the build's key is a digest of it."""
    return {
        "recipe": RECIPE,
        "source": given["source_sha256"],
        "commit": given["commit"],
        "cmake": {key: str(value) for key, value in given["cmake"].items()},
        "toolchain_file": given["toolchain"],
        "targets": sorted(given["targets"]),
        **toolchain,
    }


def key_of(decided: dict) -> str:
    """The build's key."""
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:20]


def last_line(path: str) -> str:
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


def build(given: dict, toolchain: dict[str, str], key: str, log: str) -> None:
    """Make the build aside and rename it in. Runs in a process of its own; all it says goes to the log."""
    work, final = os.path.join(given["store"], key + ".work"), os.path.join(given["store"], "builds", key)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    source = unpack(given["source"], os.path.join(work, "src"))
    environment = {
        **os.environ,
        "CCACHE_DIR": os.path.join(given["store"], "ccache"),
        "CCACHE_BASEDIR": work,
        "CCACHE_NOHASHDIR": "1",
    }
    entries = {
        **given["cmake"],
        "LLAMA_BUILD_COMMIT": given["commit"],
        "CMAKE_C_COMPILER_LAUNCHER": "ccache",
        "CMAKE_CXX_COMPILER_LAUNCHER": "ccache",
        "CMAKE_INSTALL_RPATH": "$ORIGIN",
    }
    if given["toolchain"]:
        entries["CMAKE_TOOLCHAIN_FILE"] = os.path.join(work, "toolchain.cmake")
        with open(entries["CMAKE_TOOLCHAIN_FILE"], "w", encoding="utf-8") as handle:
            handle.write(given["toolchain"])
    made = os.path.join(work, "build")
    configure = ["cmake", "-S", source, "-B", made, "-G", "Ninja"]
    configure += [f"-D{name}={value}" for name, value in sorted(entries.items())]
    with open(log, "ab") as said:
        for command in (configure, ["ninja", "-C", made, *given["targets"]]):
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment)
    ready = os.path.join(work, "ready")
    os.makedirs(os.path.join(ready, "bin"))
    for target in given["targets"]:
        shutil.copy2(os.path.join(made, "bin", target), os.path.join(ready, "bin", target))
    about = {"key": key, "name": given["name"], "commit": given["commit"], "cmake": given["cmake"], **toolchain}
    with open(os.path.join(ready, "build.json"), "w", encoding="utf-8") as handle:
        json.dump(about, handle, indent=2, sort_keys=True)
    os.makedirs(os.path.dirname(final), exist_ok=True)
    os.rename(ready, final)
    shutil.rmtree(work, ignore_errors=True)


def start(given: dict, toolchain: dict[str, str], key: str, log: str, lock: int) -> None:
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
        build(given, toolchain, key, log)
    except BaseException as error:
        with open(log, "a", encoding="utf-8") as said:
            said.write(f"FAILED: {error}\n")
    os._exit(0)


def locked(lock: int, seconds: float) -> bool:
    """Take the lock, waiting so long for whoever holds it: a process that builds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.5)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "store": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "source_sha256": {"type": "str", "required": True},
            "source": {"type": "path"},
            "commit": {"type": "str", "required": True},
            "cmake": {"type": "dict", "required": True},
            "toolchain": {"type": "str", "default": ""},
            "compiler": {"type": "str", "default": "c++"},
            "targets": {"type": "list", "elements": "str", "required": True},
            "packages": {"type": "list", "elements": "str", "required": True},
            "wait_seconds": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    given = module.params
    toolchain = toolchain_of(given)
    decided = decides(given, toolchain)
    key = key_of(decided)
    path, log = os.path.join(given["store"], "builds", key), os.path.join(given["store"], key + ".log")

    def done(status: str, changed: bool) -> None:
        told = {"key": key, "decides": decided, "path": path, "status": status}
        module.exit_json(changed=changed, progress=last_line(log), log=log, **told)

    if os.path.isdir(path):
        done("built", False)
    missing = [tool for tool in ("cmake", "ninja", "ccache", given["compiler"]) if not shutil.which(tool)]
    if module.check_mode:
        done("needed", True)
    if missing:
        module.fail_json(
            msg=f"build {given['name']}: {', '.join(missing)} missing on the builder; apt-get install {' '.join(given['packages'])}"
        )
    os.makedirs(given["store"], exist_ok=True)
    lock = os.open(os.path.join(given["store"], key + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    if not locked(lock, given["wait_seconds"]):
        done("running", False)
    if os.path.isdir(path):  # finished while we asked
        done("built", False)
    if last_line(log).startswith("FAILED"):
        with open(log, encoding="utf-8", errors="replace") as said:
            tail = said.read()[-3000:]
        os.unlink(log)  # told once; the next call tries again
        module.fail_json(msg=f"build {given['name']} of llama.cpp failed:\n{tail}", key=key)
    if not given["source"]:
        done("needed", False)
    with open(log, "w", encoding="utf-8") as said:
        said.write(time.strftime("started %Y-%m-%dT%H:%M:%SZ\n", time.gmtime()))
    start(given, toolchain, key, log, lock)
    done("running", True)


if __name__ == "__main__":
    main()
