#!/usr/bin/python
# Documentation of the action plugin llama_cpp_build.
from __future__ import annotations

DOCUMENTATION = r"""
module: llama_cpp_build
short_description: Build llama.cpp once per distinct build
description:
  - Has the builder make the build unless it is there (see M(llama_cpp_make)), sends it the source if needed, shows progress, waits,
    and brings the result to the controller. Delegate the task to the builder.
  - In check mode it only tells the key and whether the build would be made.
options:
  name: {description: What a person calls the build., type: str, required: true}
  source: {description: "Where the source comes from - one of C(pypi), C(url), C(path), with C(sha256) and C(commit).", type: dict, required: true}
  cmake: {description: CMake cache entries., type: dict, required: true}
  toolchain: {description: Text of a CMake toolchain file., type: str, default: ""}
  compiler: {description: The C++ compiler., type: str, default: c++}
  targets: {description: What to build., type: list, elements: str, required: true}
  packages: {description: Debian packages that bring the tools; named when one is missing., type: list, elements: str, required: true}
  store: {description: Folder of the builds on the builder., type: str, required: true}
  cache: {description: The controller's cache., type: str, required: true}
  home: {description: Folder of the builds on a node., type: str, default: /opt/llama.cpp}
  device: {description: A device that llama-server must name on a node., type: str, default: ""}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Build llama.cpp once
  llama_cpp_build:
    name: x86_64
    source: "{{ llama_cpp_source }}"
    cmake: {CMAKE_BUILD_TYPE: Release}
    targets: [llama-server, llama-bench]
    packages: [cmake, ninja-build, g++, ccache]
    store: ~/.cache/jarfleet/llama.cpp
    cache: ~/.cache/jarfleet
"""

RETURN = r"""
key: {description: The build's key., returned: always, type: str}
decides: {description: All that decides the build; the key is a digest of it., returned: always, type: dict}
dest: {description: Where it lies on a node., returned: success, type: str}
artifacts: {description: "What brings it to a node, as artifacts of M(push).", returned: success, type: list, elements: dict}
"""
