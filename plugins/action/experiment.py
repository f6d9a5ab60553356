"""Action plugin `experiment`: see plugins/modules/experiment.py for its documentation."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase

from fleet.artifacts.models import ModelError, origin, resolve
from fleet.artifacts.releases import WORKLOAD, ReleaseError, stage
from fleet.base.errors import PlanFileError
from fleet.intake.cluster import cluster_faults, inventory_source, node_hostvars
from fleet.intake.original.translate import Original, files_of
from fleet.intake.original.translate import read as read_original
from fleet.intake.saved_plan import SavedPlan, read_plan, reference
from fleet.intake.sizes import estimate_table
from fleet.launch.specs import workload_faults
from placement import (
    BadInput,
    Fault,
    Options,
    find_experiment,
    load_experiment,
    nodes_from_hostvars,
    parse_pins,
    parse_why,
    why_faults,
)
from placement.adapters import gguf_memory
from placement.options import EXTRA_VARS

# Options by the variables that a user knows: what a plan has decided, and what a whole run has decided besides.
DECIDED = {
    "pins": "placement",
    "strategy": EXTRA_VARS.strategy,
    "time_limit": EXTRA_VARS.time_limit,
    "seed": EXTRA_VARS.seed,
    "repeat": EXTRA_VARS.repeat,
    "why": "why",
}
NAMED = {
    "name": "experiment",
    "config": "experiment_config",
    "plan": "plan",
    "code_src": "experiment_code_src",
    "code_ref": "experiment_code_ref",
    "command": "experiment_command",
}


class ActionModule(ActionBase):
    """Reads all that the user wrote and names every fault at once. No node is contacted."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _, given = self.validate_argument_spec(
            {
                "name": {"type": "str", "default": ""},
                "config": {"type": "raw", "default": ""},
                "folder": {"type": "path", "required": True},
                "workload": {"type": "path", "required": True},
                "cache": {"type": "path", "required": True},
                "pins": {"type": "raw", "default": ""},
                "plan": {"type": "path", "default": ""},
                "strategy": {"type": "str", "default": ""},
                "time_limit": {"type": "raw", "default": ""},
                "seed": {"type": "raw", "default": ""},
                "repeat": {"type": "raw", "default": ""},
                "why": {"type": "raw", "default": ""},
                "code_src": {"type": "str", "default": ""},
                "code_ref": {"type": "str", "default": ""},
                "command": {"type": "raw", "default": []},
                "default_model": {"type": "dict", "default": {}},
                "replay": {"type": "dict", "default": {}},
            }
        )
        self._faults: list[Fault] = []
        self._cache, self._check = Path(given["cache"]), bool(self._task.check_mode)
        hostvars = self._try(node_hostvars, task_vars)
        source = inventory_source(hostvars or {})

        nodes = None if hostvars is None else self._try(nodes_from_hostvars, hostvars, {}, source)
        self._faults += cluster_faults(hostvars or {}, source)
        if given["replay"]:
            self._beside(given, {**DECIDED, **NAMED}, "a run to replay")
            return {**result, **(self._refusal() or given["replay"])}
        asked = self._try(Options.read, given["strategy"], given["time_limit"], given["seed"], given["repeat"])
        saved = self._saved(given) if given["plan"] else None
        pins = (saved.pins if saved else self._try(parse_pins, given["pins"])) or {}
        why = self._try(parse_why, given["why"]) or []
        original = self._original(given) if given["config"] != "" else None
        name = given["name"] or (saved.experiment if saved else "")
        if given["config"] != "":
            name = str(self._try(original.write, self._cache / "experiments") or "") if original else ""
        wanted = name or not (given["plan"] or given["config"] != "")
        path = self._try(find_experiment, name, given["folder"]) if wanted else None
        experiment = self._try(load_experiment, path, hostvars, pins) if path else None
        if asked and nodes and experiment:
            self._faults += asked.faults(experiment.design, nodes, experiment.instances, pins)
            self._faults += why_faults(why, [one.id for one in experiment.instances], list(hostvars))
        release = self._try(
            stage,
            self._cache,
            Path(given["workload"]),
            given["code_src"] or None,
            given["code_ref"] or None,
            check=self._check,
        )
        models = self._models(experiment, given["default_model"]) if experiment else {}
        needs, warnings = self._memory(experiment, models, hostvars or {}) if experiment else ({}, [])
        command = shlex.split(given["command"]) if isinstance(given["command"], str) else list(given["command"])
        if experiment:
            self._faults += workload_faults(experiment, bool(command), bool(given["code_src"]))
        if refusal := self._refusal():
            return {**result, **refusal}
        return {
            **result,
            "changed": False,
            "name": experiment.name,
            "path": str(path),
            "reference": reference(name, path),
            "saved": {"file": given["plan"], "plan": saved.to_json()} if saved else {},
            "strategy": asked.strategy,
            "time_limit_s": asked.time_limit_s,
            "seed": asked.seed,
            "repeat": asked.repeat,
            "why": [f"{id}:{node}" if node else id for id, node in why],
            "pins": pins,
            "command": command,
            "release": {
                "hash": release.hash,
                "src": str(release.path),
                "source": release.source or WORKLOAD,
                "commit": release.commit,
            },
            "models": models,
            "memory": {id: estimate.to_json() for id, estimate in needs.items()},
            "notes": [note.to_json() for note in original.notes] if original else [],
            "table": "\n\n".join(filter(None, (original.table if original else "", estimate_table(experiment, needs)))),
            "warnings": warnings,
            "replay": {},
        }

    def _try(self, call: Any, *args: Any, **options: Any) -> Any:
        """The call's result; None when it named faults, which are kept."""
        try:
            return call(*args, **options)
        except BadInput as error:
            self._faults += error.faults
        except PlanFileError as error:
            self._faults.append(Fault("plan", "", str(error)))
        except ReleaseError as error:
            self._faults.append(Fault("experiment_code_src", "", str(error)))
        except ModelError as error:
            self._faults.append(Fault("model", "", str(error)))
        return None

    def _refusal(self) -> dict[str, Any]:
        """What the task fails with; empty when there is no fault."""
        faults = [str(fault) for fault in dict.fromkeys(self._faults)]
        return {"failed": True, "faults": faults, "msg": "\n".join(["the input is wrong:", *faults])} if faults else {}

    def _beside(self, given: dict[str, Any], names: dict[str, str], what: str) -> None:
        """What is asked beside something that has decided it already."""
        for key, name in names.items():
            if given[key] not in (None, "", [], {}):
                self._faults.append(Fault(name, "", f"given beside {what}, which has decided it; leave one out"))

    def _saved(self, given: dict[str, Any]) -> SavedPlan | None:
        """The saved plan, and what is asked beside it that it has decided already."""
        self._beside(given, DECIDED, "a saved plan")
        saved = self._try(read_plan, Path(given["plan"]))
        if saved and given["name"]:
            asked = self._try(find_experiment, given["name"], given["folder"])
            of = self._try(find_experiment, saved.experiment, given["folder"])
            if asked and of and not asked.samefile(of):
                problem = (
                    f"{given['plan']} is a plan of {saved.experiment}, not of {given['name']}; leave experiment out"
                )
                self._faults.append(Fault("plan", "", problem))
        return saved

    def _original(self, given: dict[str, Any]) -> Original | None:
        """The original's configs as an experiment, and what is asked beside them that names another."""
        for key, name in {"name": "experiment", "plan": "plan"}.items():
            if given[key]:
                self._faults.append(
                    Fault("experiment_config", "", f"given beside {name}, which says the same; give one")
                )
        times = sum(text.startswith("experiment_config=") for text in context.CLIARGS.get("extra_vars") or ())
        if times > 1:
            problem = (
                f"given {times} times, of which Ansible keeps the last; give one, with commas: ONE.json,OTHER.json"
            )
            self._faults.append(Fault("experiment_config", "", problem))
            return None
        files = self._try(files_of, given["config"])
        return self._try(read_original, files, self._cache) if files else None

    def _models(self, experiment: Any, default: dict[str, str]) -> dict[str, dict[str, str]]:
        """The model of every instance, each resolved once: {instance: {"sha256", "src", "name"}}."""
        resolved: dict[str, Any] = {}
        found = {}
        for instance in experiment.instances:
            declared = dict(instance.model or experiment.model or default)
            if not declared:
                self._faults.append(
                    Fault(str(experiment.path), "model", "missing; name one here or as default_model in the inventory")
                )
                return {}
            key = str(sorted(declared.items()))
            if key not in resolved:
                resolved[key] = self._try(resolve, declared, self._cache, check=self._check)
            if model := resolved[key]:
                known = {"sha256": model.sha256, "src": str(model.path), "name": model.name}
                found[instance.id] = {**known, "origin": origin(declared)}
        return found

    def _memory(
        self, experiment: Any, models: dict[str, dict[str, str]], hostvars: Any
    ) -> tuple[dict[str, gguf_memory.Estimate], list[str]]:
        """What each instance needs by its model, and warnings. In a check a model may not be downloaded yet."""
        here = {id: path for id, model in models.items() if (path := Path(model["src"])).is_file()}
        needs, faults, warnings = gguf_memory.estimate_all(experiment, here, gguf_memory.repacked_types(hostvars))
        self._faults += faults
        self._faults += [
            Fault(
                str(experiment.path),
                f"instances.{one.id}.ram_gb",
                "missing, and a check does not download the model that tells it; give it, or run validate.yml once",
            )
            for one in experiment.instances
            if one.ram_gb is None and one.id in models and one.id not in here
        ]
        return needs, warnings
