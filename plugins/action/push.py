"""Action plugin `push`: see plugins/modules/push.py for its documentation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail

from fleet.base.transport import TransferError, send
from plugins.base import Action, Result


class ActionModule(Action):
    """Sends the artifacts that a node lacks: one query, one rsync each, one installation."""

    ARGUMENTS = {
        "artifacts": {"type": "list", "elements": "dict", "required": True},
        "work_dir": {"type": "str", "required": True},
        "owner": {"type": "str", "required": True},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        node = task_vars["inventory_hostname"]
        sources = {item["name"]: item.get("src") for item in given["artifacts"]}
        items = [{k: v for k, v in item.items() if k not in ("src", "link_dest")} for item in given["artifacts"]]
        shared = {"items": items, "work_dir": given["work_dir"], "owner": given["owner"]}

        state: Result = self._execute_module("artifact", {"state": "query", **shared}, task_vars=task_vars)
        if state.get("failed"):
            return state
        changed = bool(state["missing"] or state["stale"])
        sent = {name: next(item["dest"] for item in items if item["name"] == name) for name in state["missing"]}
        result: Result = {
            "changed": changed,
            "sent": sent,
            "diff": [
                {"before_header": node, "after_header": dest, "before": "", "after": f"{name}\n"}
                for name, dest in sent.items()
            ],
        }
        if state["damaged"]:
            # A damaged model gives other results, and nobody notices.
            result["damaged"] = state["damaged"]
            result["warnings"] = [f"{node}: {name} is damaged there, and is sent again" for name in state["damaged"]]
        if not changed or self._task.check_mode:
            return result

        for item in given["artifacts"]:
            if item["name"] in state["missing"]:
                self._send(node, sources[item["name"]], item, state["incoming"])
        installed = self._execute_module("artifact", {"state": "install", **shared}, task_vars=task_vars)
        return installed if installed.get("failed") else result

    def _send(self, node: str, source: str | None, item: dict[str, Any], incoming: str) -> None:
        name, target = item["name"], f"{incoming}/{os.path.basename(item['dest'])}"  # noqa: PTH119 - a path on the node
        options = [f"--link-dest={item['link_dest']}/"] if item.get("link_dest") else []
        slash = "/" if source and os.path.isdir(source) else ""  # noqa: PTH112 - the content, not the folder itself
        try:
            send(
                self._connection,
                f"{source}{slash}",
                target + slash,
                options=["--chmod=a+rX", *options],  # instances, each a user of its own, read it
                progress=lambda line: self.show(f"  {node}: sending {name} {line}"),
            )
        except TransferError as error:
            raise AnsibleActionFail(f"{name} could not be sent to {node}: {error}") from error
