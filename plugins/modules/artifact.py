#!/usr/bin/python
"""Ansible module: things kept under their own name on a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact
short_description: Immutable files and folders of a node, each under a name that tells its content
description:
  - A code release, a llama.cpp build and a model are artifacts. What is there is right and is never written again.
  - C(query) tells what is missing. C(install) takes what was sent aside, verifies it there, and renames it in.
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
missing: {description: Names of the artifacts that were not there., returned: always, type: list}
stale: {description: Links that did not name their artifact., returned: always, type: list}
incoming: {description: "Where to send what is missing, under the base name of its C(dest).", returned: always, type: str}
"""

import hashlib
import os
import pwd
import shutil
import subprocess

from ansible.module_utils.basic import AnsibleModule


def sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


def own(path: str, uid: int, gid: int) -> None:
    """Give a file, or a folder and all in it, to a user."""
    for folder, folders, files in os.walk(path):
        for name in folders + files:
            os.chown(os.path.join(folder, name), uid, gid, follow_symlinks=False)
    os.chown(path, uid, gid, follow_symlinks=False)


def make_folder(path: str, uid: int, gid: int) -> None:
    """Make a folder and those above it, all owned by the user; leave what exists as it is."""
    if not os.path.isdir(path):
        make_folder(os.path.dirname(path), uid, gid)
        os.mkdir(path, 0o755)
        os.chown(path, uid, gid)


def verify(module: AnsibleModule, item: dict, path: str) -> None:
    """Fail unless what was sent is what it says it is and works on this node."""
    name = item["name"]
    if item["sha256"]:
        actual = sha256(path)
        if actual != item["sha256"]:
            os.unlink(path)
            module.fail_json(
                msg=f"{name} arrived with sha256 {actual}, expected {item['sha256']}; run again to resend it"
            )
    said = ""
    for command in item["verify"]:
        command = [str(word).replace("{path}", path) for word in command]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
            code, output = done.returncode, done.stdout
        except (OSError, subprocess.SubprocessError) as error:
            code, output = -1, str(error)
        if code != 0:
            module.fail_json(
                msg=f"{name} does not work on this node: {' '.join(command)} exited with {code};"
                f" was it built for this processor?\n{output[-2000:]}"
            )
        said += output
    if item["expect"] not in said:
        module.fail_json(
            msg=f"{name} does not see {item['expect']} on this node; it would fall back to the CPU\n{said[-2000:]}"
        )


def install(item: dict, path: str, uid: int, gid: int) -> None:
    """Rename what arrived into its place, by way of its file system, so that it is there whole or not at all."""
    make_folder(os.path.dirname(item["dest"]), uid, gid)
    aside = item["dest"] + ".part"
    if os.path.isdir(aside):  # left by an install that was cut off
        shutil.rmtree(aside)
    shutil.move(path, aside)
    own(aside, uid, gid)
    os.rename(aside, item["dest"])


def stale(item: dict) -> bool:
    """Whether the artifact's link names something else."""
    link = item["link"]
    return bool(link) and not (os.path.islink(link) and os.readlink(link) == item["dest"])


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
    user = pwd.getpwnam(given["owner"])
    incoming = os.path.join(given["work_dir"], "incoming")
    missing = [item for item in given["items"] if not os.path.exists(item["dest"])]
    outdated = [item for item in given["items"] if stale(item)]
    if missing and not module.check_mode:
        make_folder(incoming, user.pw_uid, user.pw_gid)
    if given["state"] == "install" and not module.check_mode:
        for item in missing:
            path = os.path.join(incoming, os.path.basename(item["dest"]))
            verify(module, item, path)
            install(item, path, *((0, 0) if item["root_owned"] else (user.pw_uid, user.pw_gid)))
        for item in outdated:
            os.symlink(item["dest"], item["link"] + ".new")
            os.replace(item["link"] + ".new", item["link"])
    module.exit_json(
        changed=given["state"] == "install",
        missing=[item["name"] for item in missing],
        stale=[item["link"] for item in outdated],
        incoming=incoming,
    )


if __name__ == "__main__":
    main()
