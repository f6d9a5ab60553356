#!/usr/bin/python
"""Ansible module: immutable files and folders on a node, each under a name that identifies its content."""

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact
short_description: Immutable files and folders of a node, each under a name that tells its content
description:
  - A code release, a llama.cpp build and a model are artifacts. What is there and right is never written again.
  - C(query) tells what is missing, or is a file of another content than its sha256 says. A file is read again only when it was changed. C(install) takes what was sent aside, verifies it there, and renames it in.
options:
  state: {description: What to do., choices: [query, install], required: true, type: str}
  work_dir: {description: The node's C(remote_work_dir); artifacts arrive in C(incoming) below it., type: path, required: true}
  owner: {description: The user that sends; owns what is not root's., type: str, required: true}
  items:
    description: The artifacts.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: What a person calls it., type: str, required: true}
      dest: {description: Where it is to be., type: path, required: true}
      link: {description: A symbolic link that names the newest., type: path}
      sha256: {description: Of a single file; verified before it is renamed in., type: str}
      root_owned: {description: Belongs to root from then on., type: bool, default: false}
      verify: {description: "Commands that must succeed before it counts; C({path}) stands for where it lies.", type: list, elements: list, default: []}
      expect: {description: What they must print on stdout or stderr., type: str, default: ""}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: See which are missing
  artifact:
    state: query
    work_dir: /home/pi/brain-in-jar
    owner: pi
    items: [{name: model, dest: /home/pi/brain-in-jar/models/ab12.gguf}]
"""

RETURN = r"""
missing: {description: Names of the artifacts that were not there or are damaged., returned: always, type: list}
damaged: {description: Names of the files whose content is not what their sha256 says., returned: always, type: list}
stale: {description: Links that did not name their artifact., returned: always, type: list}
incoming: {description: "Where to send what is missing, under the base name of its C(dest).", returned: always, type: str}
"""

import os
from functools import partial

from ansible.module_utils import on_node  # makes contract and node importable
from ansible.module_utils.basic import AnsibleModule

from contract import ContractError
from contract.names import incoming_folder, models_folder
from node import artifacts, installation
from node.errors import NodeError
from node.helper import ask


def shipped() -> None:
    """Never called: see on_node."""
    from ansible.module_utils.node import artifacts, errors, helper, installation


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["query", "install"]},
            "work_dir": {"type": "path", "required": True},
            "owner": {"type": "str", "required": True},
            "items": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "dest": {"type": "path", "required": True},
                    "link": {"type": "path"},
                    "sha256": {"type": "str"},
                    "root_owned": {"type": "bool", "default": False},
                    "verify": {"type": "list", "elements": "list", "default": []},
                    "expect": {"type": "str", "default": ""},
                },
            },
        },
        supports_check_mode=True,
    )
    given = module.params
    # Who is root does it themselves: what they bring may be the node's program.
    is_root = os.geteuid() == 0
    prepare = installation.prepare if is_root else partial(ask, "prepare")
    install = installation.install if is_root else partial(ask, "install")
    items = artifacts.read(given["items"])
    index = artifacts.FileIndex(models_folder(given["work_dir"]), module.check_mode)
    stale = [item for item in items if item.has_stale_link()]
    place = {"work_dir": given["work_dir"], "owner": given["owner"]}
    try:
        damaged = [item for item in items if item.is_damaged(index)]
        missing = [item for item in items if item.is_missing()] + damaged
        folders = {os.path.dirname(item.dest) for item in missing if not item.root_owned}
        unready = [each for each in (incoming_folder(given["work_dir"]), *folders) if not os.path.isdir(each)]
        if missing and unready and not module.check_mode:
            prepare(place)
        if given["state"] == "install" and not module.check_mode:
            of_root = [item for item in items if item.root_owned]
            if of_root:
                install({**place, "items": [item.to_json() for item in of_root]})
            of_user = [item for item in missing if not item.root_owned]
            artifacts.install(of_user, **place)
            for item in of_user:
                if item.sha256:
                    index.remember(item.dest, item.sha256)
            for item in stale:
                if not item.root_owned:
                    artifacts.relink(item)
    except (NodeError, ContractError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=given["state"] == "install",
        missing=[item.name for item in missing],
        damaged=[item.name for item in damaged],
        stale=[item.link for item in stale],
        incoming=incoming_folder(given["work_dir"]),
    )


if __name__ == "__main__":
    main()
