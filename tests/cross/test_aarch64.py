"""The build for the Raspberry Pi 5, made on an x86-64 controller, under qemu. Minutes the first time, then cached.

`make cross-aarch64` installs what it needs. Why a node verifies a build by llama-bench is the last two tests.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fleet.artifacts import tiny_model

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("JARFLEET_CACHE") or Path.home() / ".cache/jarfleet")
BUILD = "cortex_a76_cross"
# What roles/llama_cpp hands to the action, for this one build.
ARGUMENTS = {
    "name": BUILD,
    "source": "{{ llama_cpp_source }}",
    "cmake": "{{ llama_cpp_cmake_common | combine(llama_cpp_builds[build].cmake) }}",
    "toolchain": "{{ lookup('ansible.builtin.file', 'roles/llama_cpp/files/' ~ llama_cpp_builds[build].toolchain) }}",
    "compiler": "{{ llama_cpp_builds[build].compiler }}",
    "targets": "{{ llama_cpp_targets }}",
    "packages": "{{ llama_cpp_builds[build].packages }}",
    "store": "{{ jarfleet_cache }}/llama.cpp",
    "cache": "{{ jarfleet_cache }}",
}


@pytest.fixture(scope="module")
def build() -> Path:
    """The folder of the build, from the project's own action plugin with the project's own variables."""
    command = [
        str(Path(sys.executable).parent / "ansible"), "localhost", "--playbook-dir", ".", "--one-line",
        "-e", json.dumps({"build": BUILD}), "-m", "llama_cpp_build", "-a", json.dumps(ARGUMENTS),
    ]  # fmt: skip
    environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal", "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(json.loads(done.stdout[done.stdout.index("=> {") + 3 :])["src"])


@pytest.fixture(scope="module")
def model() -> Path:
    path = CACHE / "models" / "tiny.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    tiny_model.ensure(path)
    return path


def qemu(processor: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
    words = ["qemu-aarch64-static", "-cpu", processor, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=600)


def bench(build: Path, model: Path, processor: str) -> subprocess.CompletedProcess[str]:
    return qemu(processor, build / "bin/llama-bench", "-m", model, "-p", "16", "-n", "8", "-r", "1", "-o", "jsonl")


def commit() -> str:
    return yaml.safe_load((ROOT / "group_vars/all/llama_cpp.yml").read_text())["llama_cpp_source"]["commit"]


def test_its_record_names_the_cross_compiler(build: Path) -> None:
    about = json.loads((build / "build.json").read_text())
    assert (about["name"], about["triple"], about["libc"]) == (BUILD, "aarch64-linux-gnu", "static")


@pytest.mark.parametrize("name", ["llama-server", "llama-bench", "llama-fit-params"])
def test_a_binary_is_for_aarch64_and_needs_no_library(build: Path, name: str) -> None:
    command = ["readelf", "--file-header", "--program-headers", str(build / "bin" / name)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "AArch64" in output
    assert "INTERP" not in output


def test_it_computes_on_a_cortex_a76(build: Path, model: Path) -> None:
    done = bench(build, model, "cortex-a76")
    assert done.returncode == 0, done.stderr
    assert all(json.loads(line)["avg_ts"] > 0 for line in done.stdout.splitlines())


@pytest.mark.parametrize("processor", ["cortex-a76", "cortex-a72"])
def test_it_names_its_commit_even_on_a_processor_that_it_is_not_for(build: Path, processor: str) -> None:
    done = qemu(processor, build / "bin/llama-server", "--version")
    assert done.returncode == 0
    assert commit() in done.stderr


def test_it_dies_of_an_unknown_instruction_on_a_cortex_a72(build: Path, model: Path) -> None:
    assert bench(build, model, "cortex-a72").returncode in (-signal.SIGILL, 128 + signal.SIGILL)
