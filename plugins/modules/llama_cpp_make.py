#!/usr/bin/python
"""Ansible module: make one build of llama.cpp once, and keep it under its key."""

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

from ansible.module_utils import on_node  # makes contract and node importable
from ansible.module_utils.basic import AnsibleModule

from contract import ContractError
from node import llama_cpp_build
from node.errors import NodeError


def shipped() -> None:
    """Never called: see on_node."""
    from ansible.module_utils.node import errors, llama_cpp_build


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
    try:
        request = llama_cpp_build.BuildRequest.from_json(module.params, "options")
        build = llama_cpp_build.ask(request, module.check_mode)
    except (NodeError, ContractError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**build._asdict())


if __name__ == "__main__":
    main()
