"""Action plugin `llama_cpp_build`: see plugins/modules/llama_cpp_build.py for its documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

from contract.json_records import shown
from fleet.artifacts.llama_build import artifacts
from fleet.artifacts.llama_source import fetch
from fleet.artifacts.verification_model import verification_model
from fleet.base.errors import SourceError
from fleet.base.transport import TransferError, fetch_tree, send
from plugins.base import Action, Result

WAIT_SECONDS = 15
KEY = re.compile(r"[0-9a-f]{8,64}")


class ActionModule(Action):
    """Requests the build, sends the source if needed, waits with progress, and fetches the result to the controller."""

    ARGUMENTS = {
        "name": {"type": "str", "required": True},
        "source": {"type": "dict", "required": True},
        "cmake": {"type": "dict", "required": True},
        "toolchain": {"type": "str", "default": ""},
        "compiler": {"type": "str", "default": "c++"},
        "targets": {"type": "list", "elements": "str", "required": True},
        "packages": {"type": "list", "elements": "str", "required": True},
        "store": {"type": "str", "required": True},
        "cache": {"type": "str", "required": True},
        "home": {"type": "str", "default": "/opt/llama.cpp"},
        "device": {"type": "str", "default": ""},
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        source, cache = given.pop("source"), Path(given.pop("cache"))
        home, device = given.pop("home"), given.pop("device")
        wanted = {**given, "source_sha256": source["sha256"], "commit": source["commit"]}

        def ask(**more: Any) -> dict[str, Any]:
            answer: Result = self._execute_module("llama_cpp_make", {**wanted, **more}, task_vars=task_vars)
            return answer

        result, changed = ask(), False
        try:
            while not self.check and not result.get("failed") and result["status"] != "built":
                if result["status"] == "needed":  # also if the building process was killed; ccache resumes
                    result = ask(source=self._source_on_builder(source, cache, given["store"]))
                    changed = changed or result.get("changed", False)
                else:
                    result = ask(wait_seconds=WAIT_SECONDS)
                    if changed:  # of all tasks that wait for it, only the one that started it shows progress
                        self.show(f"  building llama.cpp {given['name']}: {result.get('progress', '')}"[:110])
            if not result.get("failed"):
                key = self._key(result)
                dest, kept = f"{home}/{key}", cache / "llama.cpp" / "builds" / key
                if result["status"] == "built":
                    result["changed"] = changed
                    self._bring(result["path"], kept)
                model = verification_model(cache, check=self.check)
                result |= {"dest": dest, "artifacts": artifacts(kept, dest, given["name"], device, model)}
        except (SourceError, TransferError) as error:
            raise AnsibleActionFail(f"build {given['name']} of llama.cpp: {error}") from error
        return result

    def _source_on_builder(self, source: dict[str, str], cache: Path, store: str) -> str:
        archive = fetch(source, cache)
        if self._connection.transport == "local":
            return str(archive)
        target = f"{store}-{archive.name}"  # beside the store, which the builder has not created yet
        send(self._connection, str(archive), target)
        return target

    def _key(self, result: dict[str, Any]) -> str:
        """Return the build's key as the builder says it, checked: it becomes part of paths."""
        key = str(result["key"])
        if not KEY.fullmatch(key):
            raise AnsibleActionFail(f"the builder names its build {shown(key)}, which is no key of a build")
        return key

    def _bring(self, path: str, kept: Path) -> None:
        """Fetch a build from its builder to the controller, unless it is there."""
        if not kept.is_dir():
            aside = kept.with_name(kept.name + ".part")
            aside.mkdir(parents=True, exist_ok=True)
            fetch_tree(self._connection, path, aside)
            aside.rename(kept)
