"""Action plugin `run_record`: see plugins/modules/run_record.py for its documentation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.release import __version__ as ansible_version

from fleet.base.errors import FleetError, SigningError, Unsigned
from fleet.intake.cluster import node_hostvars, node_states
from fleet.launch.replay import builds, recorded
from fleet.launch.specs import Launch, instance_hosts
from fleet.record.manifest import build_manifest
from fleet.record.run_folder import Run, new_run_id
from fleet.record.signing import Keys, sign, statement, update
from fleet.results import deaths, memory_use
from fleet.results.merge import merge
from fleet.results.replay_verdict import verdict
from fleet.results.summary import closing_summary, last_exits
from placement import Plan, load_experiment, nodes_from_hostvars

ENDED = ("COMPLETED", "FAILED", "STOPPED")


class ActionModule(ActionBase):
    """Keeps the record of a run: when it is created, launched, and collected."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _, given = self.validate_argument_spec(
            {
                "state": {"type": "str", "required": True, "choices": ["created", "launched", "collected", "signed"]},
                "runs_dir": {"type": "path", "required": True},
                "run_id": {"type": "str", "default": ""},
                "checked": {"type": "dict", "default": {}},
                "plan": {"type": "dict", "default": {}},
                "signing_key": {"type": "path", "default": ""},
                "allowed_signers": {"type": "path", "default": ""},
            },
            required_if=[
                ("state", "created", ("checked", "plan")),
                ("state", "launched", ("run_id",)),
                ("state", "collected", ("run_id",)),
                ("state", "signed", ("run_id",)),
            ],
        )
        self._keys = Keys(given["signing_key"], given["allowed_signers"])
        self._hostvars = task_vars["hostvars"]
        self._instances = [str(name) for name in task_vars["groups"].get("instances", [])]
        try:
            return {**result, **getattr(self, f"_{given['state']}")(given, task_vars)}
        except FleetError as error:
            return {**result, "failed": True, "msg": str(error)}

    def _created(self, given: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        checked, plan = given["checked"], Plan.from_json(given["plan"])
        hostvars = node_hostvars(task_vars)
        states = node_states(hostvars)
        experiment = load_experiment(checked["path"]).sized(checked["memory"])
        nodes = nodes_from_hostvars(hostvars, states)
        launch = Launch.of(new_run_id(experiment.name), experiment, plan, checked, hostvars)
        hosts = instance_hosts(launch, nodes, hostvars, states)
        answer = {
            "run_id": launch.run_id,
            "path": str(Path(given["runs_dir"]) / launch.run_id),
            "instances": hosts,
            "table": f"run {launch.run_id}",
            "changed": True,
        }
        if self._task.check_mode:
            return answer
        design = {"seed": plan.seed, "counterbalance": plan.counterbalance}
        manifest = build_manifest(
            **recorded(checked, hosts),
            llama_cpp={},
            inventory={node.name: repr(node) for node in nodes},
            plan=plan.to_json(),
            versions={"ansible": ansible_version},
            design=design,
        )
        run = Run.create(given["runs_dir"], launch.run_id, manifest, plan.to_json())
        memory_use.predict(run, experiment, checked["memory"])
        saved = checked.get("saved", {}).get("file", "")
        run.event(
            "placed",
            assignments=dict(plan.assignments),
            score=plan.score,
            strategy=plan.strategy,
            **design,
            saved=saved,
        )
        return {**answer, "path": str(run.path), "warnings": self._unsigned(run, partial(sign, run, self._keys))}

    def _signed(self, given: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        run = Run.open(given["runs_dir"], given["run_id"])
        stated = statement(run.manifest)
        return {"changed": sign(run, self._keys, check=bool(self._task.check_mode)), "table": stated}

    def _unsigned(self, run: Run, signing: Callable[[], Any]) -> list[str]:
        """Sign, or the warning why that was not possible: a run without a key runs all the same."""
        try:
            signing()
        except Unsigned:  # since it was created, which has been told
            return []
        except SigningError as error:
            return [f"the manifest of {run.run_id} is not signed, and cannot be replayed before it is: {error}"]
        return []

    def _launched(self, given: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """What became of each instance's start; `failed_instances` are those that must not go on without the others."""
        run = Run.open(given["runs_dir"], given["run_id"])
        failed = {}
        for name in self._instances:
            outcome = self._hostvars[name].get("instance_started") or {"msg": "was not started: an earlier step failed"}
            if outcome.get("unreachable") or outcome.get("failed") or "status" not in outcome:
                failed[name] = str(outcome.get("msg", "the node did not answer")).strip()
                run.event("launch_failed", instance=name, reason=failed[name])
            else:
                run.event("launched", instance=name, status=outcome["status"])
        made = builds(node_hostvars(task_vars))
        warnings = self._unsigned(run, partial(update, run, self._keys, **made))
        return {"changed": False, "failed_instances": failed, "warnings": warnings}

    def _collected(self, given: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        run = Run.open(given["runs_dir"], given["run_id"])
        collected = {name: self._hostvars[name].get("instance_collected") or {} for name in self._instances}
        entries = {name: self._hostvars[name]["instance_spec"] for name in self._instances}
        statuses = {
            entries[name]["id"]: str(outcome.get("status", "LOST")) if not outcome.get("failed") else "LOST"
            for name, outcome in collected.items()
        }
        nodes = {entry["id"]: str(entry["node"]) for entry in entries.values()}
        # A program of the user's own need not have a database: only one that was fetched can be faulty.
        with_database = {id: node for id, node in nodes.items() if (run.path / "db" / f"{id}.db").exists()}
        merged = merge(run.path, with_database, run.run_id)
        died = deaths.write_deaths(run, nodes, statuses)
        figures = memory_use.measure(run, nodes)
        changed = merged["changed"] or died or any(outcome.get("changed") for outcome in collected.values())
        if changed:
            run.event("collected", statuses=statuses, rows=merged["rows"], problems=merged["problems"], memory=figures)
        reported, warnings = self._report(run)
        bad = {id: status for id, status in statuses.items() if status in ("FAILED", "LOST")}
        problems = {**last_exits(run.path, bad), **merged["problems"]}
        summary = closing_summary(run.path, nodes, statuses, problems, figures)
        over = set(run.plan.get("assignments", {})) <= {id for id, status in statuses.items() if status in ENDED}
        return {
            "changed": changed or reported,
            "warnings": warnings,
            "statuses": statuses,
            "bad": bad,
            # While the run goes on, an observer may not have read all of a subject that has ended.
            "taps": [name for name, entry in entries.items() if over and entry.get("observed")],
            "problems": merged["problems"],
            "memory": figures,
            "path": str(run.path),
            "table": "\n\n".join(filter(None, (summary, verdict(run)))),
        }

    def _report(self, run: Run) -> tuple[bool, list[str]]:
        """Whether the report changed, or the warning why it was not written: the results are home all the same."""
        from fleet.report import write  # its plots' library is slow to load, and no other step needs it

        try:
            return write(run, check=bool(self._task.check_mode))[1], []
        except Exception as error:
            again = f"ansible-playbook playbooks/report.yml -e run={run.run_id}"
            return False, [f"{run.path}: report.html was not written: {error}; `{again}` tries again"]
