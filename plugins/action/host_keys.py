"""Action plugin `host_keys`: see plugins/modules/host_keys.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsiblePromptInterrupt, AnsiblePromptNoninteractive

from fleet.base.terminal import plain
from fleet.observe.host_keys import HostKey, HostKeyError, unknown
from plugins.base import LocalAction, Result


class ActionModule(LocalAction):
    """Compares the host keys of new nodes with what was given, or asks a person, and writes them down."""

    ARGUMENTS = {"nodes": {"type": "list", "elements": "str", "required": True}}

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        added = []
        for node in given["nodes"]:
            variables = {
                name: self._templar.template(task_vars["hostvars"][node].get(name))
                for name in ("ansible_host", "ansible_port", "ansible_ssh_common_args", "ansible_ssh_extra_args")
            }
            key = unknown(node, variables)
            if key is None:
                continue
            fingerprint = str(task_vars["hostvars"][node].get("host_key_fingerprint") or "")
            if fingerprint:
                key.check(fingerprint)
            elif not self.check:
                self._confirm(key)
            if not self.check:
                key.write_down()
            added.append(f"{node}: {key.address} {key.fingerprint}")
        return {"changed": bool(added), "diff": [{"before": "", "after": f"{line}\n"} for line in added]}

    def _confirm(self, key: HostKey) -> None:
        question = f"{key.node} ({key.address}) shows the host key {key.fingerprint}\nIs it that machine's? Type yes: "
        try:
            answer = self._display.prompt_until(plain(question), private=False).decode(errors="replace")
        except (AnsiblePromptNoninteractive, AnsiblePromptInterrupt) as error:
            raise HostKeyError(
                f"nodes.{key.node}: nobody has compared its host key {key.fingerprint}; `ssh-keygen -lf"
                " /etc/ssh/ssh_host_ed25519_key.pub` on the machine shows it; give it as host_key_fingerprint"
            ) from error
        if answer.strip() != "yes":
            raise HostKeyError(f"nodes.{key.node}: its host key was not confirmed")
